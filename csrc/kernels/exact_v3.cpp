#define ISA v3
#include "exact-inl.h"
