// The kernels of the CUDA path: where N people are in a frame, their crops, and keypoints out of their heatmaps.
//
// No headers, so that NVRTC needs nothing beside it, and compiled without contraction into fused multiply-adds: the
// results are those of posert.runtime.preprocess and posert.runtime.decode, which are the definition. The tests compile
// this same file for a CPU. Whatever changes from frame to frame is read from `Batch` in device memory, never from the
// arguments, so that a captured CUDA graph is replayed as it is. The structs are mirrored in kernels.py.

typedef unsigned char u8;
typedef unsigned int u32;
typedef long long i64;

enum Format { BGR, RGB, BGRA, RGBA, GREY, NV12 };
enum Rule {
    NONE, DEFAULT, UNBIASED, UDP, UDP_COMBINED, MEGVII, MEGVII_ORIGINAL, HOURGLASS,
    MSRA, UDP_HEATMAP, UDP_HEATMAP_COMBINED, SIMCC, SIMCC_DARK
};

struct Frame {
    const u8* pixels;
    const u8* chroma;  // NV12 only: the plane of U, V pairs
    i64 pitch;         // bytes from row to row, of both planes
    int width, height, format, people;
};

struct Person {
    float center[2], extent[2];  // px of the frame
    double inverse[6];           // crop -> frame, which `locate` makes of them
};

struct Batch {
    Frame frame;
    Person people[1];  // as many as the batch has slots
};

// -------------------------------------------------------------------------------------------------------- regions

#define THREADS 128

struct Locate {
    Batch* batch;
    int slots, width, height, udp;
};

__device__ inline bool is_finite(double v) { return v - v == 0; }

// One thread for each person: the inverse of preprocess.crop_matrices, by its operations in its precisions. A region
// that has none is left without an extent, so that its keypoints are NaN.
// grid (slots / THREADS), block THREADS
extern "C" __global__ void locate(const __grid_constant__ Locate a) {
    const int slot = blockIdx.x * THREADS + threadIdx.x;
    if (slot >= a.slots || slot >= a.batch->frame.people) return;
    Person& person = a.batch->people[slot];
    const float* c = person.center;
    const float* e = person.extent;
    const int size[2] = {a.width, a.height};
    const float up = c[1] - (float)(c[1] - e[0] * 0.5), left = c[0] - (c[0] + -up);
    const double reach[2] = {left, up};
    double scale[2], shift[2];
    for (int i = 0; i < 2; ++i) {
        if (a.udp) {
            scale[i] = (size[i] - 1) / (double)e[i];
            shift[i] = scale[i] * (e[i] / 2.0 - c[i]);
        } else {
            scale[i] = a.width * 0.5 / reach[i];
            shift[i] = size[i] * 0.5 - scale[i] * c[i];
        }
    }
    const bool found = is_finite(scale[0]) && is_finite(scale[1]) && is_finite(shift[0]) && is_finite(shift[1]);
    if (a.udp)
        for (int i = 0; i < 2; ++i) { scale[i] = (float)scale[i]; shift[i] = (float)shift[i]; }
    const double product = scale[0] * scale[1], determinant = product != 0 ? 1 / product : 0;
    for (int i = 0; i < 2; ++i) {
        double* row = person.inverse + 3 * i;
        const double slope = scale[1 - i] * determinant;
        row[0] = row[1] = 0;
        row[i] = found ? slope : 0;
        row[2] = found ? -slope * shift[i] : 0;
        if (!found) person.extent[i] = 0.0f / 0.0f;
    }
}

// ---------------------------------------------------------------------------------------------------------- crops

struct Warp {
    const Batch* batch;
    u8* crops;  // (slots, height, width, 3) BGR; mirror images follow as a second half of the batch
    int slots, width, height, mirror;
};

#define TILE 32  // px of a crop per block, each way
#define ROWS 8   // of a tile at a time

struct Color { int b, g, r; };

// One sample of the frame as BGR. NV12 is BT.601 with limited range and its chroma is not interpolated, as in OpenCV.
__device__ inline Color sample(const Frame& f, i64 x, i64 y) {
    Color c = {0, 0, 0};
    if (x < 0 || y < 0 || x >= f.width || y >= f.height) return c;
    const u8* row = f.pixels + y * f.pitch;
    if (f.format == BGR || f.format == RGB) {
        c.b = row[3 * x]; c.g = row[3 * x + 1]; c.r = row[3 * x + 2];
    } else if (f.format == BGRA || f.format == RGBA) {
        c.b = row[4 * x]; c.g = row[4 * x + 1]; c.r = row[4 * x + 2];
    } else if (f.format == GREY) {
        c.b = c.g = c.r = row[x];
    } else {
        const u8* uv = f.chroma + (y >> 1) * f.pitch + (x & ~1LL);
        int u = uv[0] - 128, v = uv[1] - 128, luma = row[x] > 16 ? (row[x] - 16) * 1220542 : 0, half = 1 << 19;
        c.b = (luma + half + 2116026 * u) >> 20;
        c.g = (luma + half - 409993 * u - 852492 * v) >> 20;
        c.r = (luma + half + 1673527 * v) >> 20;
        c.b = c.b < 0 ? 0 : c.b > 255 ? 255 : c.b;
        c.g = c.g < 0 ? 0 : c.g > 255 ? 255 : c.g;
        c.r = c.r < 0 ? 0 : c.r > 255 ? 255 : c.r;
    }
    if (f.format == RGB || f.format == RGBA) { int t = c.b; c.b = c.r; c.r = t; }
    return c;
}

// Copy a finished tile into the crops, by words where rows are made of whole ones.
__device__ inline void store(const u8* tile, u8* crop, int left, int top, int width, int height, bool mirrored) {
    const int columns = TILE < width - left ? TILE : width - left, rows = TILE < height - top ? TILE : height - top;
    const int unit = width % 4 == 0 ? 4 : 1, units = 3 * columns / unit;
    u8* out = crop + ((i64)top * width + (mirrored ? width - left - columns : left)) * 3;
    for (int i = threadIdx.y * TILE + threadIdx.x; i < rows * units; i += TILE * ROWS) {
        const int row = i / units, first = i % units * unit;
        u32 word = 0;
        for (int k = 0; k < unit; ++k) {
            const int pixel = (first + k) / 3, channel = (first + k) % 3;
            word |= (u32)tile[(row * TILE + (mirrored ? columns - 1 - pixel : pixel)) * 3 + channel] << 8 * k;
        }
        u8* to = out + (i64)row * width * 3 + first;
        if (unit == 4) *(u32*)to = word;
        else *to = (u8)word;
    }
}

// grid (tiles across, tiles down, slots), block (TILE, ROWS)
extern "C" __global__ void warp(const __grid_constant__ Warp a) {
    // Double precision is slow on most GPUs: the coordinates of a tile's columns and rows are computed once.
    __shared__ i64 along[2][TILE], down[2][TILE];
    __shared__ u8 tile[TILE * TILE * 3];
    const Frame frame = a.batch->frame;  // a copy: bytes that are stored might be its own, for all the compiler knows
    const int slot = blockIdx.z, left = blockIdx.x * TILE, top = blockIdx.y * TILE;
    if (slot >= frame.people) return;
    const int thread = threadIdx.y * TILE + threadIdx.x;
    if (thread < 2 * TILE) {
        const int axis = thread / TILE, i = thread % TILE;
        const double* m = a.batch->people[slot].inverse + 3 * axis;
        along[axis][i] = (i64)rint(m[0] * (left + i) * 1024.0);
        down[axis][i] = (i64)rint((m[1] * (top + i) + m[2]) * 1024.0) + 16;
    }
    __syncthreads();

    const int x = threadIdx.x;
#pragma unroll 1
    for (int y = threadIdx.y; y < TILE; y += ROWS) {
        const i64 u = (down[0][y] + along[0][x]) >> 5, v = (down[1][y] + along[1][x]) >> 5;
        const int f = (int)(u & 31), g = (int)(v & 31);
        Color sum = {512, 512, 512};
        for (int tap = 0; tap < 4; ++tap) {
            const int weight = (tap & 1 ? f : 32 - f) * (tap & 2 ? g : 32 - g);
            const Color c = sample(frame, (u >> 5) + (tap & 1), (v >> 5) + (tap >> 1));
            sum.b += weight * c.b; sum.g += weight * c.g; sum.r += weight * c.r;
        }
        u8* out = tile + (y * TILE + x) * 3;
        out[0] = (u8)(sum.b >> 10); out[1] = (u8)(sum.g >> 10); out[2] = (u8)(sum.r >> 10);
    }
    __syncthreads();

    const i64 crop = 3LL * a.width * a.height;
    store(tile, a.crops + slot * crop, left, top, a.width, a.height, false);
    if (a.mirror) store(tile, a.crops + (a.slots + slot) * crop, left, top, a.width, a.height, true);
}

// ------------------------------------------------------------------------------------------------------ keypoints

#define MAX_KERNEL 99
#define MAX_WIDE (2 * MAX_KERNEL + 1)
#define STRIP 2048  // cells of a map that are blurred at a time, and so its greatest height
#define MARGIN 10   // of the Megvii repository's blur
#define AMPLITUDE 255.0f

struct Decode {
    const void* heatmaps;  // (slots, channels * joints, height, width), or with SimCC (slots, joints, width); those of
                           // the mirror images follow
    const void* vertical;  // SimCC only: (slots, joints, height), as above
    const Batch* batch;
    const int* mirror;  // joint that stands for each in the mirror; null without a flip test
    float* keypoints;   // (slots, joints, 3): x and y in px of the frame, score
    int slots, joints, height, width, half, rule, kernel, kernel_y, udp, shift;
    double gaussian[MAX_KERNEL];  // weights of `kernel` cells
    double wide[MAX_WIDE];        // of 2 * kernel + 1, with SimCC of `kernel_y`
};

#ifdef __CUDACC__
__device__ inline float widen(unsigned short bits) {
    float value;
    asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
    return value;
}
#endif

// A heatmap, or the mean of it and of the one of the mirror image.
struct Map {
    const void* heatmaps;
    i64 own, mirrored;  // index of the first cell; -1 without a flip test
    int width, height, half, shift, capped;
    float sign;
    int upright;  // the mirror image's is not turned back: a vector along y

    __device__ float load(i64 i) const {
        return half ? widen(((const unsigned short*)heatmaps)[i]) : ((const float*)heatmaps)[i];
    }

    __device__ float operator()(int x, int y) const {
        float value = load(own + y * width + x);
        if (mirrored >= 0) {
            const int from = upright ? x : width - 1 - x + (shift && x > 0);
            value = (sign * load(mirrored + y * width + from) + value) * 0.5f;
        }
        return capped && value > 1.0f && value <= 3.402823466e38f ? 1.0f : value;  // an infinity has to show
    }
};

__device__ inline Map map_of(const Decode& a, int channels, int channel) {
    const int joint = blockIdx.x, slot = blockIdx.y;
    const i64 cells = (i64)a.height * a.width, maps = (i64)a.joints * channels;
    Map map = {a.heatmaps, (slot * maps + joint * channels + channel) * cells, -1,
               a.width, a.height, a.half, a.shift, a.rule == HOURGLASS, 1.0f, 0};
    if (a.mirror) {
        map.mirrored = ((a.slots + slot) * maps + a.mirror[joint] * channels + channel) * cells;
        if (channel == 1) map.sign = -1.0f;  // an offset along x points the other way
    }
    return map;
}

// The vector of SimCC along x (axis 0) or y, as a map of one row.
__device__ inline Map vector_of(const Decode& a, int axis) {
    const int joint = blockIdx.x, slot = blockIdx.y, cells = axis ? a.height : a.width;
    Map map = {axis ? a.vertical : a.heatmaps, ((i64)slot * a.joints + joint) * cells, -1,
               cells, 1, a.half, 0, 0, 1.0f, axis};
    if (a.mirror) map.mirrored = ((i64)(a.slots + slot) * a.joints + a.mirror[joint]) * cells;
    return map;
}

struct Peak { double value; int index; };

struct Shared {
    Peak peaks[THREADS];
    double strip[STRIP], rows[(MAX_KERNEL + 4) * 5], window[25];
};

// As numpy's argmax: the first of equals, and a NaN is above everything.
__device__ inline bool above(const Peak& p, const Peak& q) {
    if (p.index < 0 || q.index < 0) return p.index >= 0;
    const bool p_nan = p.value != p.value, q_nan = q.value != q.value;
    if (p_nan != q_nan) return p_nan;
    if (!p_nan && p.value != q.value) return p.value > q.value;
    return p.index < q.index;
}

// The highest of all threads' peaks, for all threads.
__device__ inline Peak block_highest(Peak mine, Shared& s) {
    const int t = threadIdx.x;
    s.peaks[t] = mine;
    __syncthreads();
    for (int half = THREADS / 2; half > 0; half /= 2) {
        if (t < half && above(s.peaks[t + half], s.peaks[t])) s.peaks[t] = s.peaks[t + half];
        __syncthreads();
    }
    mine = s.peaks[0];
    __syncthreads();
    return mine;
}

__device__ inline Peak highest(const Map& map, Shared& s) {
    float best = 0;  // as `above`, in single precision and for cells that come in order
    int at = -1;
    for (int i = threadIdx.x; i < map.width * map.height; i += THREADS) {
        const float value = map(i % map.width, i / map.width);
        if (at < 0 || value > best || (value != value && best == best)) { best = value; at = i; }
    }
    return block_highest({best, at}, s);
}

// The cell that a blur reads for cell i of a row of n: itself, its reflection (the edge not repeated), or -1 for zero.
__device__ inline int source(int i, int n, bool reflect) {
    if (i >= 0 && i < n) return i;
    if (!reflect) return -1;
    if (n == 1) return 0;
    const int period = 2 * (n - 1);
    i = (i % period + period) % period;
    return i < n ? i : period - i;
}

__device__ __noinline__ double blur_row(const Map& map, int x, int y, const double* weights, int taps, bool reflect) {
    double sum = 0;
#pragma unroll 1
    for (int t = 0; t < taps; ++t) {
        const int from = source(x - taps / 2 + t, map.width, reflect);
        if (from >= 0) sum += weights[t] * map(from, y);
    }
    return sum;
}

// s.window: the blurred map around (x, y), `reach` cells to each side; beyond the map its nearest cell repeats.
__device__ __noinline__ void blur_window(const Decode& a, const Map& map, int x, int y, int reach, bool reflect, Shared& s) {
    const int side = 2 * reach + 1, taps = a.kernel;
    for (int i = threadIdx.x; i < (taps + 2 * reach) * side; i += THREADS) {
        const int row = source(y - reach - taps / 2 + i / side, map.height, reflect);
        int column = x - reach + i % side;
        column = column < 0 ? 0 : column >= map.width ? map.width - 1 : column;
        s.rows[i] = row < 0 ? 0.0 : blur_row(map, column, row, a.gaussian, taps, reflect);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < side * side; i += THREADS) {
        int row = y - reach + i / side;
        row = (row < 0 ? 0 : row >= map.height ? map.height - 1 : row) - (y - reach);
        double sum = 0;
#pragma unroll 1
        for (int t = 0; t < taps; ++t) sum += a.gaussian[t] * s.rows[(row + t) * side + i % side];
        s.window[i] = sum;
    }
    __syncthreads();
}

// How the cells of a blurred map are compared: in double precision, or as single precision gives them.
struct View { bool single; double scale; int erased; };

__device__ inline double seen(double v, const View& view) {
    return view.single ? (double)(float)((float)v * view.scale) : v;
}

// The highest cell of the whole blurred map with `margin` cells around it. The map is blurred in strips of columns
// that fit into shared memory.
__device__ __noinline__ Peak highest_blurred(const Map& map, const double* weights, int taps, bool reflect, int margin,
                                             const View& view, Shared& s) {
    const int columns = STRIP / map.height, width = map.width + 2 * margin;
    Peak mine = {0, -1};
    for (int left = 0; left < width; left += columns) {
        const int wide = columns < width - left ? columns : width - left;
        for (int i = threadIdx.x; i < map.height * wide; i += THREADS)
            s.strip[i] = blur_row(map, left + i % wide - margin, i / wide, weights, taps, reflect);
        __syncthreads();
        for (int i = threadIdx.x; i < (map.height + 2 * margin) * wide; i += THREADS) {
            double sum = 0;
#pragma unroll 1
            for (int t = 0; t < taps; ++t) {
                const int row = source(i / wide - margin - taps / 2 + t, map.height, reflect);
                if (row >= 0) sum += weights[t] * s.strip[row * wide + i % wide];
            }
            Peak here = {0, i / wide * width + left + i % wide};
            here.value = here.index == view.erased ? 0.0 : seen(sum, view);
            if (above(here, mine)) mine = here;
        }
        __syncthreads();
    }
    return block_highest(mine, s);
}

struct Point { double x, y; float score; };

__device__ inline double sign(float v) { return (v > 0) - (v < 0); }

// The quarter cell towards the higher neighbours, for cells that are inside by the reference's rule (one cell more at
// the left and the top than at the right and the bottom).
__device__ inline bool inside(int x, int y, int width, int height, int far) {
    return x > 1 && y > 1 && x < width - far && y < height - far;
}

// p - inverse Hessian * slope, where there is an inverse.
__device__ __noinline__ void newton(Point& p, double dx, double dy, double dxx, double dyy, double dxy) {
    const double det = dxx * dyy - dxy * dxy;
    if (det == 0) return;
    p.x -= (dyy * dx - dxy * dy) / det;
    p.y -= (dxx * dy - dxy * dx) / det;
}

// s.window becomes the logarithm of itself times `scale`, held between `low` and `high`.
__device__ __noinline__ void logarithm(int cells, double scale, double low, double high, Shared& s) {
    for (int i = threadIdx.x; i < cells; i += THREADS) {
        const double v = s.window[i] * scale;
        s.window[i] = log(v < low ? low : v > high ? high : v);
    }
    __syncthreads();
}

__device__ inline void refine_unbiased(const Decode& a, const Map& map, int x, int y, Point& p, Shared& s) {
    blur_window(a, map, x, y, 2, false, s);
    bool low = false;
    for (int i = 0; i < 25; ++i) low |= s.window[i] < 1e-10;
    // The reference scales the blurred map to the old maximum. In the logarithm that is a constant, unless a value of
    // the window lies under the logarithm's floor.
    double scale = 1;
    if (low) scale = p.score / highest_blurred(map, a.gaussian, a.kernel, false, 0, {false, 1, -1}, s).value;
    __syncthreads();
    logarithm(25, scale, 1e-10, 1e300, s);
    const double* l = s.window + 12;
    newton(p, 0.5 * (l[1] - l[-1]), 0.5 * (l[5] - l[-5]), 0.25 * (l[2] - 2 * l[0] + l[-2]),
           0.25 * (l[10] - 2 * l[0] + l[-10]), 0.25 * (l[6] - l[-4] - l[4] + l[-6]));
}

__device__ inline void refine_udp(const Decode& a, const Map& map, int x, int y, Point& p, Shared& s) {
    const bool reflect = a.rule == UDP;
    blur_window(a, map, x, y, 1, reflect, s);
    double scale = 1;
    if (!reflect) {  // as above, for the limits of this logarithm
        bool limited = p.score > 50;
        for (int i = 0; i < 9; ++i) limited |= s.window[i] < 0.001;
        if (limited) scale = p.score / highest_blurred(map, a.gaussian, a.kernel, false, 0, {false, 1, -1}, s).value;
        __syncthreads();
    }
    logarithm(9, scale, 0.001, 50, s);
    const double* l = s.window + 4;
    const double epsilon = 1.1920928955078125e-07;  // of single precision
    newton(p, 0.5 * (l[1] - l[-1]), 0.5 * (l[3] - l[-3]), l[1] - 2 * l[0] + l[-1] + epsilon,
           l[3] - 2 * l[0] + l[-3] + epsilon, 0.5 * (l[4] - l[1] - l[3] + 2 * l[0] - l[-1] - l[-3] + l[-4]));
}

__device__ inline Point udp_combined(const Decode& a, const Map& map, Shared& s) {
    const Peak peak = highest_blurred(map, a.wide, 2 * a.kernel + 1, true, 0, {true, 1, -1}, s);
    Point p = {-1, -1, (float)peak.value};
    if (peak.value > 0) {
        const int x = peak.index % a.width, y = peak.index / a.width;
        if (a.rule == UDP_HEATMAP_COMBINED) {  // which computes in single precision
            const float radius = (float)(0.0546875 * (a.width > a.height ? a.width : a.height));
            p.x = x + radius * map_of(a, 3, 1)(x, y);
            p.y = y + radius * map_of(a, 3, 2)(x, y);
            return p;
        }
        const double radius = 0.0546875 * a.height;  // within which offsets are trained
        blur_window(a, map_of(a, 3, 1), x, y, 0, true, s);
        p.x = x + radius * s.window[0];
        __syncthreads();
        blur_window(a, map_of(a, 3, 2), x, y, 0, true, s);
        p.y = y + radius * s.window[0];
    }
    return p;
}

// `top`: the highest value of the map itself.
__device__ inline Point megvii(const Decode& a, const Map& map, double top, Shared& s) {
    View view = {true, 1, -1};
    const float peak = (float)highest_blurred(map, a.gaussian, a.kernel, false, 0, view, s).value;
    if (peak != 0) view.scale = top / peak;
    const Peak best = highest_blurred(map, a.gaussian, a.kernel, false, 0, view, s);
    Point p = {-1, -1, peak != 0 ? (float)best.value / AMPLITUDE + 0.5f : 0.0f};
    if (best.value > 0) {
        const int x = best.index % a.width, y = best.index / a.width;
        p.x = x; p.y = y;
        if (inside(x, y, a.width, a.height, 1)) {
            blur_window(a, map, x, y, 1, false, s);
            float b[9];
            for (int i = 0; i < 9; ++i) b[i] = (float)seen(s.window[i], view);
            p.x += 0.25 * sign(b[5] - b[3]) + 0.5;
            p.y += 0.25 * sign(b[7] - b[1]) + 0.5;
        }
    }
    return p;
}

__device__ inline Point megvii_original(const Decode& a, const Map& map, Shared& s) {
    const int width = a.width + 2 * MARGIN;
    const Peak first = highest_blurred(map, a.gaussian, a.kernel, false, MARGIN, {false, 1, -1}, s);
    const Peak second = highest_blurred(map, a.gaussian, a.kernel, false, MARGIN, {false, 1, first.index}, s);
    const int dx = second.index % width - first.index % width, dy = second.index / width - first.index / width;
    const double length = sqrt((double)(dx * dx + dy * dy));
    Point p = {(double)(first.index % width - MARGIN), (double)(first.index / width - MARGIN), 0};
    if (length > 1e-3) { p.x += 0.25 * (dx / length); p.y += 0.25 * (dy / length); }
    p.x = p.x < 0 ? 0 : p.x > a.width - 1 ? a.width - 1 : p.x;
    p.y = p.y < 0 ? 0 : p.y > a.height - 1 ? a.height - 1 : p.y;
    // a NaN elsewhere shows in the blurred peak only; what is not finite minus itself is NaN
    p.score = (map((int)rint(p.x), (int)rint(p.y)) + (float)(first.value - first.value)) / AMPLITUDE + 0.5f;
    p.x += 0.5; p.y += 0.5;
    return p;
}

// A Newton step on the logarithm of a blurred vector at its highest cell.
__device__ __noinline__ double refine_vector(const Map& vector, const Peak& peak, const double* weights, int taps,
                                             Shared& s) {
    Peak mine = {0, -1};
    for (int i = threadIdx.x; i < vector.width; i += THREADS) {
        const Peak here = {blur_row(vector, i, 0, weights, taps, false), i};
        if (above(here, mine)) mine = here;
    }
    const double blurred = block_highest(mine, s).value;
    for (int i = threadIdx.x; i < 5; i += THREADS) {
        const int x = peak.index - 2 + i, last = vector.width - 1;
        s.window[i] = blur_row(vector, x < 0 ? 0 : x > last ? last : x, 0, weights, taps, false);
    }
    __syncthreads();
    logarithm(5, blurred != 0 ? peak.value / blurred : 1, 0.001, 50, s);
    const double* l = s.window + 2;
    const double step = 0.5 * (l[1] - l[-1]) / (1e-9 + 0.25 * (l[2] - 2 * l[0] + l[-2]));
    __syncthreads();
    return peak.index - step;
}

__device__ inline Point simcc(const Decode& a, Shared& s) {
    const Map along = vector_of(a, 0), down = vector_of(a, 1);
    const Peak x = highest(along, s), y = highest(down, s);
    const double low = x.value < y.value ? x.value : y.value, high = x.value < y.value ? y.value : x.value;
    Point p = {-1, -1, (float)(low + (high - high) + (low - low))};  // what is not finite has to show
    if (p.score > 0) {
        p.x = x.index; p.y = y.index;
        if (a.rule == SIMCC_DARK) {
            p.x = refine_vector(along, x, a.gaussian, a.kernel, s);
            p.y = refine_vector(down, y, a.wide, a.kernel_y, s);
        }
    }
    return p;
}

// The rules that start at the highest cell of a map.
__device__ inline Point from_map(const Decode& a, Shared& s) {
    const bool combined = a.rule == UDP_COMBINED || a.rule == UDP_HEATMAP_COMBINED;
    const Map map = map_of(a, combined ? 3 : 1, 0);
    const Peak peak = highest(map, s);
    if (combined) return udp_combined(a, map, s);
    if (a.rule == MEGVII) return megvii(a, map, peak.value, s);
    if (a.rule == MEGVII_ORIGINAL) return megvii_original(a, map, s);
    Point p = {-1, -1, (float)peak.value};
    if (!(peak.value > 0)) return p;
    const int x = peak.index % a.width, y = peak.index / a.width;
    p.x = x; p.y = y;
    if (a.rule == DEFAULT && inside(x, y, a.width, a.height, 1)) {
        p.x += 0.25 * sign(map(x + 1, y) - map(x - 1, y));
        p.y += 0.25 * sign(map(x, y + 1) - map(x, y - 1));
    } else if (a.rule == MSRA) {  // each axis by itself
        if (x > 1 && x < a.width - 1 && y > 0) p.x += 0.25 * sign(map(x + 1, y) - map(x - 1, y));
        if (y > 1 && y < a.height - 1 && x > 0) p.y += 0.25 * sign(map(x, y + 1) - map(x, y - 1));
    } else if (a.rule == UNBIASED && inside(x, y, a.width, a.height, 2)) {
        refine_unbiased(a, map, x, y, p, s);
    } else if (a.rule == UDP || a.rule == UDP_HEATMAP) {
        refine_udp(a, map, x, y, p, s);
    } else if (a.rule == HOURGLASS) {
        // at the border the cell itself stands for the neighbour that is not there
        const int right = x + 1 < a.width ? x + 1 : x, below = y + 1 < a.height ? y + 1 : y;
        p.x += map(right, y) > map(x > 0 ? x - 1 : x, y) ? 0.75 : 0.25;
        p.y += map(x, below) > map(x, y > 0 ? y - 1 : y) ? 0.75 : 0.25;
    }
    return p;
}

// grid (joints, slots), block THREADS
extern "C" __global__ void decode(const __grid_constant__ Decode a) {
    __shared__ Shared s;
    const int joint = blockIdx.x, slot = blockIdx.y;
    if (slot >= a.batch->frame.people) return;
    const Point p = a.rule == SIMCC || a.rule == SIMCC_DARK ? simcc(a, s) : from_map(a, s);
    if (threadIdx.x == 0) {
        const Person& person = a.batch->people[slot];
        const int cells[2] = {a.width - a.udp, a.height - a.udp};
        const float point[2] = {(float)p.x, (float)p.y};
        float* out = a.keypoints + ((i64)slot * a.joints + joint) * 3;
        for (int i = 0; i < 2; ++i) {
            const double extent = person.extent[i];
            out[i] = (float)(point[i] * (extent / cells[i]) + (person.center[i] - extent * 0.5));
        }
        out[2] = p.score;
    }
}
