#define ISA base
#include "exact-inl.h"
