#define ISA v4
#include "exact-inl.h"
