#define ISA base
#include "kernels-inl.h"
