#define ISA v3
#include "normals.h"
#include "normals-inl.h"
