#define ISA base
#include "normals.h"
#include "normals-inl.h"
