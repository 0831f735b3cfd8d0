#include "shim.h"
#include KERNELS

LAUNCHER(locate, Locate)
LAUNCHER(warp, Warp)
LAUNCHER(decode, Decode)
