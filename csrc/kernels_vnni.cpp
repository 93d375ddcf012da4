#define ISA vnni
#include "screen-inl.h"
