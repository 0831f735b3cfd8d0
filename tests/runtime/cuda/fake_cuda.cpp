// A CUDA driver whose GPU is the CPU, for tests of driver.py and pipeline.py: memory is memory, a stream runs what it is
// given at once, or while it captures keeps it for the graph; the kernels are those of kernels.cu (shim.h).
// Where cuda.h is at hand (-DHAVE_CUDA_H) the compiler checks the signatures.
#ifdef HAVE_CUDA_H
#include <cuda.h>
#else
typedef int CUresult, CUdevice;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st* CUcontext;
typedef struct CUstream_st* CUstream;
typedef struct CUevent_st* CUevent;
typedef struct CUmod_st* CUmodule;
typedef struct CUfunc_st* CUfunction;
typedef struct CUgraph_st* CUgraph;
typedef struct CUgraphExec_st* CUgraphExec;
typedef int CUdevice_attribute, CUstreamCaptureMode, CUpointer_attribute;
typedef unsigned long long cuuint64_t;
#endif
#include <functional>
#include <mutex>
#include <string>

#include "shim.cpp"

using Work = std::vector<std::function<void()>>;
struct CUstream_st { Work* capturing; bool ended; };
struct CUgraph_st { Work work; };
struct CUgraphExec_st { Work work; };
struct CUfunc_st { std::string name; };
struct CUctx_st { int unused; };
struct CUevent_st { CUstream recorded; };
struct CUmod_st { int unused; };

static CUctx_st primary;
static thread_local CUcontext current_context;
static thread_local int mode;          // of this thread towards captures: 0 global, 1 thread-local, 2 relaxed
static thread_local CUstream begun;    // the stream that this thread captures
static long long allocated;    // buffers that are not freed
static int fails;              // the status of the next calls, for tests of errors
static int refused_images;     // images that the driver does not load
static int capability = 86;
static int foreign;            // whether memory belongs to another context
static std::vector<std::pair<CUstream, CUstream>> waits;  // which stream waited for which

#define CHECKED if (fails) return (CUresult)fails
#define IN_CONTEXT CHECKED; if (!current_context) return (CUresult)201
#define API extern "C" CUresult

extern "C" void fake_set(int what, int value) {
    if (what == 0) fails = value;
    if (what == 1) refused_images = value;
    if (what == 2) capability = value;
    if (what == 3) foreign = value;
}
extern "C" int fake_waited(CUstream stream, CUstream earlier) {
    int count = 0;
    for (auto& pair : waits) count += pair.first == stream && pair.second == earlier;
    return count;
}
extern "C" long long fake_allocated() { return allocated; }

static CUresult put(CUstream stream, std::function<void()> work) {
    if (stream && stream->capturing) stream->capturing->push_back(work);
    else work();
    return (CUresult)0;
}

API cuInit(unsigned) { return (CUresult)0; }
API cuDriverGetVersion(int* v) { *v = 12040; return (CUresult)0; }
API cuGetErrorName(CUresult e, const char** s) {
    *s = e == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : e == 700 ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR";
    return (CUresult)0;
}
API cuGetErrorString(CUresult, const char** s) { *s = "as the test wished"; return (CUresult)0; }
API cuDeviceGet(CUdevice* d, int i) { *d = i; return (CUresult)0; }
API cuDeviceGetName(char* s, int n, CUdevice) { snprintf(s, n, "Fake GPU"); return (CUresult)0; }
API cuDeviceGetAttribute(int* v, CUdevice_attribute a, CUdevice) {
    *v = a == 75 ? capability / 10 : a == 76 ? capability % 10 : 0;
    return (CUresult)0;
}
API cuDevicePrimaryCtxRetain(CUcontext* c, CUdevice) { *c = &primary; return (CUresult)0; }
API cuCtxGetCurrent(CUcontext* c) { *c = current_context; return (CUresult)0; }
API cuCtxSetCurrent(CUcontext c) { current_context = c; return (CUresult)0; }
API cuMemGetInfo_v2(size_t* f, size_t* t) { IN_CONTEXT; *f = 1 << 30; *t = 2 << 30; return (CUresult)0; }
API cuMemAlloc_v2(CUdeviceptr* p, size_t n) { IN_CONTEXT; *p = (CUdeviceptr)malloc(n); ++allocated; return (CUresult)0; }
static CUresult unsafe() {  // what must not be called in a thread that captures
    if (!begun || mode == 2) return (CUresult)0;
    begun->ended = true;
    return (CUresult)900;
}
API cuThreadExchangeStreamCaptureMode(CUstreamCaptureMode* m) {
    int before = mode;
    mode = *m;
    *m = (CUstreamCaptureMode)before;
    return (CUresult)0;
}
API cuMemFree_v2(CUdeviceptr p) {
    if (CUresult refused = unsafe()) return refused;
    free((void*)p); --allocated; return (CUresult)0;
}
API cuMemHostAlloc(void** p, size_t n, unsigned) { IN_CONTEXT; *p = malloc(n); ++allocated; return (CUresult)0; }
API cuMemHostGetDevicePointer_v2(CUdeviceptr* d, void* p, unsigned) { *d = (CUdeviceptr)p; return (CUresult)0; }
API cuMemFreeHost(void* p) { free(p); --allocated; return (CUresult)0; }
API cuMemcpyHtoDAsync_v2(CUdeviceptr d, const void* s, size_t n, CUstream q) {
    IN_CONTEXT; return put(q, [=] { memcpy((void*)d, s, n); });
}
API cuMemcpyDtoHAsync_v2(void* d, CUdeviceptr s, size_t n, CUstream q) {
    IN_CONTEXT; return put(q, [=] { memcpy(d, (void*)s, n); });
}
API cuMemcpyDtoDAsync_v2(CUdeviceptr d, CUdeviceptr s, size_t n, CUstream q) {
    IN_CONTEXT; return put(q, [=] { memcpy((void*)d, (void*)s, n); });
}
API cuPointerGetAttribute(void* v, CUpointer_attribute, CUdeviceptr) {
    static CUctx_st other;
    IN_CONTEXT; *(CUcontext*)v = foreign ? &other : &primary; return (CUresult)0;
}
API cuMemsetD8Async(CUdeviceptr d, unsigned char v, size_t n, CUstream q) {
    IN_CONTEXT; return put(q, [=] { memset((void*)d, v, n); });
}
API cuStreamCreate(CUstream* s, unsigned) { IN_CONTEXT; *s = new CUstream_st{nullptr, false}; return (CUresult)0; }
API cuStreamDestroy_v2(CUstream s) { delete s; return (CUresult)0; }
API cuStreamSynchronize(CUstream s) { IN_CONTEXT; return (CUresult)(s && s->capturing ? 900 : 0); }
API cuStreamWaitEvent(CUstream s, CUevent e, unsigned) {
    IN_CONTEXT;
    static std::mutex one;
    std::lock_guard<std::mutex> lock(one);
    waits.push_back({s, e->recorded});
    return (CUresult)0;
}
API cuStreamBeginCapture_v2(CUstream s, CUstreamCaptureMode) { 
    IN_CONTEXT; begun = s; s->capturing = new Work; s->ended = false; return (CUresult)0;
}
API cuStreamEndCapture(CUstream s, CUgraph* g) {
    begun = nullptr;
    if (s->ended) {
        delete s->capturing;
        s->capturing = nullptr;
        *g = nullptr;
        return (CUresult)901;
    }
    *g = new CUgraph_st{*s->capturing};
    delete s->capturing;
    s->capturing = nullptr;
    return (CUresult)0;
}
API cuGraphInstantiateWithFlags(CUgraphExec* e, CUgraph g, unsigned long long) {
    IN_CONTEXT; *e = new CUgraphExec_st{g->work}; return (CUresult)0;
}
API cuGraphLaunch(CUgraphExec e, CUstream) { IN_CONTEXT; for (auto& w : e->work) w(); return (CUresult)0; }
API cuGraphDestroy(CUgraph g) { delete g; return (CUresult)0; }
API cuGraphExecDestroy(CUgraphExec e) { delete e; return (CUresult)0; }
API cuEventCreate(CUevent* e, unsigned) { IN_CONTEXT; *e = new CUevent_st{0}; return (CUresult)0; }
API cuEventRecord(CUevent e, CUstream s) { IN_CONTEXT; e->recorded = s; return (CUresult)0; }
API cuEventSynchronize(CUevent) { IN_CONTEXT; return (CUresult)0; }
API cuEventElapsedTime(float* ms, CUevent, CUevent) { IN_CONTEXT; *ms = 1; return (CUresult)0; }
API cuEventDestroy_v2(CUevent e) { delete e; return (CUresult)0; }
API cuModuleLoadData(CUmodule* m, const void*) {
    IN_CONTEXT;
    if (refused_images > 0) { --refused_images; return (CUresult)222; }
    *m = new CUmod_st{0};
    return (CUresult)0;
}
API cuModuleUnload(CUmodule m) { delete m; return (CUresult)0; }
API cuModuleGetFunction(CUfunction* f, CUmodule, const char* name) { *f = new CUfunc_st{name}; return (CUresult)0; }
API cuLaunchKernel(CUfunction f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned,
                   CUstream q, void** arguments, void**) {
    IN_CONTEXT;
    struct Known { const char* name; size_t size; int (*launch)(const void*, const unsigned*, const unsigned*, int); };
    static const Known known[] = {{"locate", sizeof(Locate), launch_locate}, {"warp", sizeof(Warp), launch_warp},
                                  {"decode", sizeof(Decode), launch_decode}};
    for (const Known& k : known) {
        if (f->name != k.name) continue;
        const char* first = (const char*)arguments[0];
        std::vector<char> copy(first, first + k.size);
        return put(q, [=] {
            const unsigned grid[3] = {gx, gy, gz}, block[3] = {bx, by, bz};
            k.launch(copy.data(), grid, block, 0);
        });
    }
    return (CUresult)500;  // not found
}

extern "C" void fake_run(void (*work)(), CUstream q) { put(q, work); }
