// The two products that a convolution and its gradients come down to, on panels: rows of numbers, one per channel, in
// which a tap of the kernel is a fixed distance ("offset") from the place of the output.
//
//   gather:  out[r][q]  = sum over k of weights[k][r] * in[offsets[k] + q]
//   reduce:  sums[r][k] = sum over q of rows[r][q] * in[offsets[k] + q]
//
// Panels may be read, and out may be written, up to kSlack numbers past their length.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace vargfacenet {

#if defined(__AVX512F__)
constexpr int kLanes = 16, kRows = 8, kWide = 3;  // of 32 registers, 24 hold sums
#elif defined(__AVX__)
constexpr int kLanes = 8, kRows = 4, kWide = 3;  // of 16 registers, 12 hold sums
#else
constexpr int kLanes = 4, kRows = 4, kWide = 3;
#endif
constexpr int kHigh = 4, kTaps = kRows * kWide / kHigh;  // rows and taps of a tile of `reduce`
constexpr int64_t kSlack = kLanes * kWide;

typedef float Lanes __attribute__((vector_size(4 * kLanes), aligned(4), may_alias));

inline Lanes load(const float* from) { return *reinterpret_cast<const Lanes*>(from); }
// Prevents the compiler from loading the same numbers again for each use.
inline Lanes in_register(Lanes lanes) {
#if defined(__AVX512F__)
  __asm__("" : "+v"(lanes));
#endif
  return lanes;
}
inline void store(float* to, Lanes lanes) { *reinterpret_cast<Lanes*>(to) = lanes; }

// Applied to a sum before it is written: a shift is added, then PReLU, by row; either may be null.
struct Finish {
  const float *shift, *slope;
};

template <int high, int wide>
inline void gather_tile(const float* in, const int64_t* offsets, int64_t taps, const float* weights,
                        const Finish& finish, float* out, int64_t out_stride, int64_t rows) {
  Lanes sums[high][wide] = {};
  for (int64_t k = 0; k < taps; ++k) {
    Lanes x[wide];
#pragma GCC unroll 4
    for (int v = 0; v < wide; ++v) x[v] = load(in + offsets[k] + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < high; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < wide; ++v) sums[r][v] += x[v] * weights[k * high + r];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < high; ++r) {
    if (r >= rows) continue;
#pragma GCC unroll 4
    for (int v = 0; v < wide; ++v) {
      Lanes z = sums[r][v];
      if (finish.shift) z += finish.shift[r];
      if (finish.slope) z = z > 0 ? z : z * finish.slope[r];
      store(out + r * out_stride + v * kLanes, z);
    }
  }
}

// `weights` holds blocks of `high` rows, each (taps, high), the last filled up with zeros.
template <int high>
void gather(const float* in, int64_t length, const int64_t* offsets, int64_t taps, const float* weights,
            const Finish& finish, float* out, int64_t out_stride, int64_t rows) {
  int64_t left = (length + kLanes - 1) / kLanes;
  for (int64_t q = 0; left > 0;) {
    const int64_t wide = left == 4 ? 2 : std::min<int64_t>(left, kWide);
    for (int64_t r = 0; r < rows; r += high) {
      const float* block = weights + r * taps;
      const Finish part = {finish.shift ? finish.shift + r : nullptr, finish.slope ? finish.slope + r : nullptr};
      float* to = out + r * out_stride + q;
      if (wide == 3) gather_tile<high, 3>(in + q, offsets, taps, block, part, to, out_stride, rows - r);
      if (wide == 2) gather_tile<high, 2>(in + q, offsets, taps, block, part, to, out_stride, rows - r);
      if (wide == 1) gather_tile<high, 1>(in + q, offsets, taps, block, part, to, out_stride, rows - r);
    }
    q += wide * kLanes;
    left -= wide;
  }
}

inline float sum_of(Lanes lanes) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps(reinterpret_cast<__m512>(lanes));
#else
  float parts[kLanes];
  store(parts, lanes);
  for (int width = kLanes / 2; width; width /= 2) {
    for (int i = 0; i < width; ++i) parts[i] += parts[i + width];
  }
  return parts[0];
#endif
}

// Adds to sums[r * sums_stride + k] for kHigh rows (repeated where there are fewer) and kTaps taps. Numbers past the
// length must be zero in `rows`, and finite in `in`.
inline void reduce_tile(const float* const rows[kHigh], const float* in, const int64_t* offsets, int64_t length,
                        float sums[kHigh][kTaps]) {
  const float* from[kTaps];
  for (int k = 0; k < kTaps; ++k) from[k] = in + offsets[k];
  Lanes parts[kHigh][kTaps] = {};
  for (int64_t q = 0; q < length; q += kLanes) {
    Lanes dy[kHigh];
#pragma GCC unroll 8
    for (int r = 0; r < kHigh; ++r) dy[r] = load(rows[r] + q);
#pragma GCC unroll 8
    for (int k = 0; k < kTaps; ++k) {
      const Lanes x = in_register(load(from[k] + q));
#pragma GCC unroll 8
      for (int r = 0; r < kHigh; ++r) parts[r][k] += dy[r] * x;
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kHigh; ++r) {
#pragma GCC unroll 8
    for (int k = 0; k < kTaps; ++k) sums[r][k] = sum_of(parts[r][k]);
  }
}

inline void reduce(const float* rows, int64_t row_stride, int64_t count, const float* in, const int64_t* offsets,
                   int64_t taps, int64_t length, float* sums) {
  for (int64_t r = 0; r < count; r += kHigh) {
    const float* high[kHigh];
    for (int64_t i = 0; i < kHigh; ++i) high[i] = rows + std::min(r + i, count - 1) * row_stride;
    for (int64_t k = 0; k < taps; k += kTaps) {
      int64_t near[kTaps];
      for (int64_t i = 0; i < kTaps; ++i) near[i] = offsets[std::min(k + i, taps - 1)];
      float tile[kHigh][kTaps];
      reduce_tile(high, in, near, length, tile);
      for (int64_t i = r; i < std::min(r + kHigh, count); ++i) {
        for (int64_t j = k; j < std::min(k + kTaps, taps); ++j) sums[i * taps + j] += tile[i - r][j - k];
      }
    }
  }
}

}  // namespace vargfacenet
