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
#include <type_traits>

#include "lanes.h"

namespace vargfacenet {

constexpr int64_t kPiece = 2 << 10;  // places that are summed over at a time, so that rows stay near
constexpr int64_t kAhead = 1 << 10;  // numbers by which weights are fetched before their use: a page, where processors stop
constexpr int64_t kNear = 4 << 10;  // numbers that stay in the first-level cache (half of the smallest: 32 KiB)

// Applied to a sum before it is written: a shift is added, then PReLU, by row; either may be null.
struct Finish {
  const float *shift, *slope;

  Finish from(int64_t row) const { return {shift ? shift + row : nullptr, slope ? slope + row : nullptr}; }
};

// sums[r][v] += sum over k of weights[k][r] * in[offsets[k] + v * kLanes ...]
template <int high, int wide>
inline __attribute__((always_inline)) void accumulate(const float* in, const int64_t* offsets, int64_t taps,
                                                      const float* weights, Lanes (&sums)[high][wide]) {
  for (int64_t k = 0; k < taps; ++k) {
    Lanes x[wide];
    __builtin_prefetch(weights + k * high + kAhead);
#pragma GCC unroll 4
    for (int v = 0; v < wide; ++v) x[v] = load(in + offsets[k] + v * kLanes);
#pragma GCC unroll 8
    for (int r = 0; r < high; ++r) {
#pragma GCC unroll 4
      for (int v = 0; v < wide; ++v) sums[r][v] += x[v] * weights[k * high + r];
    }
  }
}

// Writes the first `rows` rows of sums.
template <int high, int wide>
inline __attribute__((always_inline)) void write_sums(const Lanes (&sums)[high][wide], Finish finish, float* out,
                                                      int64_t out_stride, int64_t rows) {
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

template <int high, int wide>
inline void gather_tile(const float* in, const int64_t* offsets, int64_t taps, const float* weights, Finish finish,
                        float* out, int64_t out_stride, int64_t rows) {
  Lanes sums[high][wide] = {};
  accumulate(in, offsets, taps, weights, sums);
  write_sums(sums, finish, out, out_stride, rows);
}

// Calls visit(place, vectors) for the tiles of a row of `length` places, whose widths are constants.
template <typename Visit>
inline void each_tile(int64_t length, Visit visit) {
  int64_t left = (length + kLanes - 1) / kLanes;
  for (int64_t q = 0; left > 0;) {
    const int64_t wide = left == 4 ? 2 : std::min<int64_t>(left, kWide);
    if (wide == 3) visit(q, std::integral_constant<int, 3>());
    if (wide == 2) visit(q, std::integral_constant<int, 2>());
    if (wide == 1) visit(q, std::integral_constant<int, 1>());
    q += wide * kLanes;
    left -= wide;
  }
}

// `weights` holds blocks of `high` rows, each (taps, high), the last filled up with zeros.
template <int high>
void gather(const float* in, int64_t length, const int64_t* offsets, int64_t taps, const float* weights, Finish finish,
            float* out, int64_t out_stride, int64_t rows) {
  each_tile(length, [=](int64_t q, auto wide) {
    for (int64_t r = 0; r < rows; r += high) {
      gather_tile<high, wide()>(in + q, offsets, taps, weights + r * taps, finish.from(r), out + r * out_stride + q,
                                out_stride, rows - r);
    }
  });
}

// Places that `reduce` sums over: `count` pieces of `length` numbers. The pieces of a row, and of the panel that taps
// point into, are at these distances.
struct Pieces {
  int64_t count, length, row_step, in_step;
};

// Adds to sums[k * kHigh + r] for kHigh rows and kTaps taps. Numbers past the length must be zero in `rows`, and finite
// in `in`.
inline void reduce_tile(const float* const rows[kHigh], const float* const from[kTaps], const Pieces& pieces,
                        float* sums) {
  Lanes parts[kHigh][kTaps] = {};
  for (int64_t piece = 0; piece < pieces.count; ++piece) {
    const float *dy[kHigh], *x[kTaps];
#pragma GCC unroll 8
    for (int r = 0; r < kHigh; ++r) dy[r] = rows[r] + piece * pieces.row_step;
#pragma GCC unroll 8
    for (int k = 0; k < kTaps; ++k) x[k] = from[k] + piece * pieces.in_step;
    for (int64_t q = 0; q < pieces.length; q += kLanes) {
      // The longer side of the tile is loaded one by one; the shorter side stays in registers meanwhile.
      if constexpr (kTaps > kHigh) {
        Lanes fixed[kHigh];
#pragma GCC unroll 8
        for (int r = 0; r < kHigh; ++r) fixed[r] = in_register(load(dy[r] + q));
#pragma GCC unroll 8
        for (int k = 0; k < kTaps; ++k) {
          const Lanes one = in_register(load(x[k] + q));
#pragma GCC unroll 8
          for (int r = 0; r < kHigh; ++r) parts[r][k] += fixed[r] * one;
        }
      } else {
        Lanes fixed[kTaps];
#pragma GCC unroll 8
        for (int k = 0; k < kTaps; ++k) fixed[k] = in_register(load(x[k] + q));
#pragma GCC unroll 8
        for (int r = 0; r < kHigh; ++r) {
          const Lanes one = in_register(load(dy[r] + q));
#pragma GCC unroll 8
          for (int k = 0; k < kTaps; ++k) parts[r][k] += one * fixed[k];
        }
      }
    }
  }
  add_sums(parts, sums);
}

// Where the sum of row r and tap k is in `sums`, which holds tiles.
inline int64_t sum_place(int64_t r, int64_t k, int64_t taps) {
  const int64_t tile = r / kHigh * ((taps + kTaps - 1) / kTaps) + k / kTaps;
  return (tile * kTaps + k % kTaps) * kHigh + r % kHigh;
}

inline int64_t sums_size(int64_t rows, int64_t taps) { return sum_place((rows + kHigh - 1) / kHigh * kHigh, 0, taps); }

// Adds to `size` sums those of the other slices, each at the distance `step` from the one before, in their order.
inline void sum_slices(float* sums, int64_t size, int64_t slices, int64_t step) {
  for (int64_t slice = 1; slice < slices; ++slice) {
    const float* more = sums + slice * step;
#pragma omp simd
    for (int64_t i = 0; i < size; ++i) sums[i] += more[i];
  }
}

// The sums of `rows` and `taps` into to[r * stride + k].
inline void take_sums(const float* sums, int64_t rows, int64_t taps, float* to, int64_t stride) {
  for (int64_t r = 0; r < rows; r += kHigh) {
    for (int64_t k = 0; k < taps; ++k) {
      const float* from = sums + sum_place(r, k, taps);
      for (int64_t i = 0; i < std::min<int64_t>(kHigh, rows - r); ++i) to[(r + i) * stride + k] = from[i];
    }
  }
}

// Rows and taps that a tile lacks are repeated; their sums are not used.
inline void reduce(const float* rows, int64_t row_stride, int64_t count, const float* in, const int64_t* offsets,
                   int64_t taps, const Pieces& pieces, float* sums) {
  // So many rows stay in the first-level cache while taps pass by.
  const int64_t few = std::max<int64_t>(1, kNear / (pieces.count * pieces.length * kHigh)) * kHigh;
  for (int64_t begin = 0; begin < count; begin += few) {
    for (int64_t k = 0; k < taps; k += kTaps) {
      const float* from[kTaps];
      for (int64_t i = 0; i < kTaps; ++i) from[i] = in + offsets[std::min(k + i, taps - 1)];
      for (int64_t r = begin; r < std::min(begin + few, count); r += kHigh) {
        const float* high[kHigh];
        for (int64_t i = 0; i < kHigh; ++i) high[i] = rows + std::min(r + i, count - 1) * row_stride;
        reduce_tile(high, from, pieces, sums + sum_place(r, k, taps));
      }
    }
  }
}

}  // namespace vargfacenet
