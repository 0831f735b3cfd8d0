#include "shim.h"
#include KERNELS

LAUNCHER(warp, Warp)
LAUNCHER(decode, Decode)
