#define ISA base
#include "normals-inl.h"
