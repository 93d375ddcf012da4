#define ISA v4
#include "normals-inl.h"
