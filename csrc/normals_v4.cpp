#define ISA v4
#include "normals.h"
#include "normals-inl.h"
