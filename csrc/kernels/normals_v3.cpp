#define ISA v3
#include "normals-inl.h"
