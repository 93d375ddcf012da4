#define ISA v4
#include "kernels-inl.h"
