#define ISA v3
#include "kernels-inl.h"
