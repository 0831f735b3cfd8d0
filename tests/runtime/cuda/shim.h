// Runs kernels.cu on a CPU: g++ -include shim.h -x c++ kernels.cu. Blocks run one after the other; the threads of a
// block are fibers that change at every barrier, so barriers have their exact meaning. Two things that a GPU leaves
// undefined are errors here: threads that wait at different barriers, and threads that end while others wait.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <vector>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __grid_constant__
#define __shared__ static
#define __noinline__

struct Dim { unsigned x, y, z; };
static Dim blockIdx, threadIdx, blockDim;

static float widen(unsigned short bits) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    float value = exponent == 0 ? ldexpf(fraction, -24) : ldexpf(1024 + fraction, exponent - 25);
    if (exponent == 31) value = fraction ? NAN : INFINITY;
    return bits & 0x8000 ? -value : value;
}

struct Fiber { ucontext_t context; std::vector<char> stack; Dim thread; int barrier; bool done; };
static ucontext_t scheduler;
static Fiber* current;
static void (*body)(const void*);
static const void* body_arguments;

static void change(ucontext_t* from, ucontext_t* to, const void* bottom, size_t size, bool ends) {
#ifdef __SANITIZE_ADDRESS__
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(ends ? nullptr : &fake, bottom, size);
    swapcontext(from, to);
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#else
    (void)bottom, (void)size, (void)ends;
    swapcontext(from, to);
#endif
}

static const void* scheduler_stack;
static size_t scheduler_size;

static void enter() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_size);
#endif
    body(body_arguments);
    current->done = true;
    change(&current->context, &scheduler, scheduler_stack, scheduler_size, true);
}

static void barrier(int line) {
    current->barrier = line;
    change(&current->context, &scheduler, scheduler_stack, scheduler_size, false);
}
#define __syncthreads() barrier(__LINE__)

static int run_block(std::vector<Fiber>& fibers, bool reverse) {
    const int n = (int)fibers.size();
    for (int i = 0; i < n; ++i) {
        Fiber& f = fibers[i];
        f.done = false;
        f.thread = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.data();
        f.context.uc_stack.ss_size = f.stack.size();
        f.context.uc_link = &scheduler;
        makecontext(&f.context, enter, 0);
    }
    while (!fibers[0].done) {
        for (int i = 0; i < n; ++i) {
            current = &fibers[reverse ? n - 1 - i : i];
            threadIdx = current->thread;
            change(&scheduler, &current->context, current->stack.data(), current->stack.size(), false);
        }
        for (Fiber& f : fibers)
            if (f.done != fibers[0].done || (!f.done && f.barrier != fibers[0].barrier)) return 1;
    }
    return 0;
}

// 0, or 1 where threads of a block part at a barrier.
static int launch(void (*kernel)(const void*), const void* arguments, const unsigned* grid, const unsigned* block,
                  int reverse) {
    body = kernel;
    body_arguments = arguments;
    blockDim = {block[0], block[1], block[2]};
    std::vector<Fiber> fibers(block[0] * block[1] * block[2]);
    for (Fiber& f : fibers) f.stack.resize(256 << 10);
    for (blockIdx.z = 0; blockIdx.z < grid[2]; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < grid[1]; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < grid[0]; ++blockIdx.x)
                if (run_block(fibers, reverse)) return 1;
    return 0;
}

#define LAUNCHER(kernel, Arguments)                                                                              \
    extern "C" int launch_##kernel(const void* a, const unsigned* grid, const unsigned* block, int reverse) {    \
        return launch([](const void* p) { kernel(*(const Arguments*)p); }, a, grid, block, reverse);             \
    }
