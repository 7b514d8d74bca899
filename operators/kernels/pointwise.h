// Convolutions by kernels of one number, and their gradients: products of matrices, whose columns are the pixels of all
// images, one image after another.
//
// Columns are copied into tiles as wide as those of `gather`, in which the channels follow one another: a tile stays in
// the first-level cache and takes few pages, and tiles may span images that are smaller than vectors.
#pragma once

#include <algorithm>
#include <vector>

#include "panels.h"
#include "threads.h"
#include "weights.h"

namespace vargfacenet {

constexpr int64_t kTile = kLanes * kWide;    // columns
constexpr int64_t kTiles = 8;                // whose sums are taken at a time for the gradient of the weights
constexpr int64_t kChunk = 24;               // input channels that pass by meanwhile, a multiple of kTaps

inline bool is_pointwise(const Convolution& conv) { return conv.kernel == 1 && conv.stride == 1; }

// Columns of the channels of a group, in a tensor (batch, all channels, plane).
template <typename Number>
struct Columns {
  Number* numbers;  // of the group's first channel
  int64_t plane, image_step, count;

  // Calls visit(numbers, column, length) for each part of the columns `begin` to `end` that is in one image.
  template <typename Visit>
  void each(int64_t begin, int64_t end, Visit visit) const {
    for (int64_t column = begin; column < end;) {
      const int64_t image = column / plane, place = column % plane, length = std::min(plane - place, end - column);
      visit(numbers + image * image_step + place, column - begin, length);
      column += length;
    }
  }
};

// The columns from `begin` on into tiles (rows, kTile), the last filled up with zeros; returns how many there are.
inline int64_t pack(const Columns<const float>& from, int64_t begin, int64_t most, int64_t rows, float* tiles) {
  const int64_t last = std::min(begin + most * kTile, from.count);
  int64_t number = 0;
  for (; begin < last; begin += kTile, ++number, tiles += rows * kTile) {
    const int64_t end = std::min(begin + kTile, from.count);
    if (end - begin < kTile) std::fill(tiles, tiles + rows * kTile, 0.0f);
    from.each(begin, end, [&](const float* numbers, int64_t column, int64_t length) {
      if (length == kTile) {
        for (int64_t k = 0; k < rows; ++k) {
#pragma GCC unroll 4
          for (int v = 0; v < kWide; ++v) {
            store(tiles + k * kTile + v * kLanes, load(numbers + k * from.plane + v * kLanes));
          }
        }
      } else {
        for (int64_t k = 0; k < rows; ++k) copy_row(numbers + k * from.plane, tiles + k * kTile + column, length);
      }
    });
  }
  return number;
}

// Rows of a product for the columns of one tile, which begin at `begin`, into their places. `spare` (rows, kTile) is for
// results that vectors do not fit.
template <int high>
void multiply(const float* tile, const std::vector<int64_t>& offsets, const float* weights, Finish finish,
              const Columns<float>& to, int64_t begin, int64_t rows, float* spare) {
  const int64_t taps = offsets.size(), place = begin % to.plane, width = std::min(kTile, to.count - begin);
  if (width == kTile && place + kTile <= to.plane) {
    float* out = to.numbers + begin / to.plane * to.image_step + place;
    gather<high>(tile, kTile, offsets.data(), taps, weights, finish, out, to.plane, rows);
    return;
  }
  gather<high>(tile, width, offsets.data(), taps, weights, finish, spare, kTile, rows);
  to.each(begin, begin + width, [&](float* numbers, int64_t column, int64_t length) {
    for (int64_t r = 0; r < rows; ++r) copy_row(spare + r * kTile + column, numbers + r * to.plane, length);
  });
}

inline std::vector<int64_t> tile_offsets(int64_t rows) {
  std::vector<int64_t> offsets;
  for (int64_t k = 0; k < rows; ++k) offsets.push_back(k * kTile);
  return offsets;
}

template <typename Number>
Columns<Number> columns(const Convolution& conv, int64_t channels, int64_t group, Number* numbers) {
  const int64_t plane = conv.in_height * conv.in_width;
  return {numbers + group * channels * plane, plane, conv.groups * channels * plane, conv.batch * plane};
}

// As `conv_forward`.
template <int high>
void pointwise_forward(const Convolution& conv, const float* x, const float* weight, const float* factors,
                       Finish finish, float* y) {
  const int64_t tiles = (conv.batch * conv.in_height * conv.in_width + kTile - 1) / kTile;
  const std::vector<int64_t> offsets = tile_offsets(conv.in);
  const Weights<high> weights(conv.groups, conv.out, conv.in, forward_weights(conv, weight, factors));
  const Parts parts(conv.out, high, tiles * conv.groups);
#pragma omp parallel
  {
    Workspace workspace((conv.in + conv.out) * kTile + 32);
    float *packed = workspace.take(conv.in * kTile), *spare = workspace.take(conv.out * kTile);
#pragma omp for collapse(3)
    for (int64_t g = 0; g < conv.groups; ++g) {
      for (int64_t tile = 0; tile < tiles; ++tile) {
        for (int64_t part = 0; part < parts.count; ++part) {
          const int64_t begin = parts.begin(part), row = g * conv.out + begin;
          Columns<float> to = columns(conv, conv.out, g, y);
          to.numbers += begin * to.plane;
          pack(columns(conv, conv.in, g, x), tile * kTile, 1, conv.in, packed);
          multiply<high>(packed, offsets, weights.rows(g, begin), finish.from(row), to, tile * kTile,
                         parts.begin(part + 1) - begin, spare);
        }
      }
    }
  }
}

// As `conv_backward`.
template <int high>
void pointwise_backward(const Convolution& conv, const float* dy, const float* x, const float* weight, float* dx,
                        float* dweight) {
  const int64_t block = kTiles * kTile, blocks = (conv.batch * conv.in_height * conv.in_width + block - 1) / block;
  const int64_t slices = std::min(blocks, std::max<int64_t>(1, 16 / conv.groups));
  const std::vector<int64_t> in_offsets = tile_offsets(kChunk), out_offsets = tile_offsets(conv.out);
  const auto transposed = [&](int64_t g, int64_t c, int64_t o) { return weight[(g * conv.out + o) * conv.in + c]; };
  const Weights<high> weights(conv.groups, conv.in, conv.out, transposed);
  const int64_t chunk_share = sums_size(conv.out, kChunk), chunks = (conv.in + kChunk - 1) / kChunk;
  const int64_t share = chunks * chunk_share;
  std::vector<float> shares(conv.groups * slices * share);
#pragma omp parallel
  {
    Workspace workspace((conv.out + kChunk) * block + conv.in * kTile + 48);
    float *gradients = workspace.take(conv.out * block), *inputs = workspace.take(kChunk * block);
    float* spare = workspace.take(conv.in * kTile);
#pragma omp for collapse(2)
    for (int64_t slice = 0; slice < slices; ++slice) {
      for (int64_t g = 0; g < conv.groups; ++g) {
        float* sums = &shares[(g * slices + slice) * share];
        for (int64_t number = slice * blocks / slices; number < (slice + 1) * blocks / slices; ++number) {
          const int64_t begin = number * block;
          const int64_t tiles = pack(columns(conv, conv.out, g, dy), begin, kTiles, conv.out, gradients);
          for (int64_t c = 0; c < conv.in; c += kChunk) {
            const int64_t rows = std::min(kChunk, conv.in - c);
            Columns<const float> from = columns(conv, conv.in, g, x);
            from.numbers += c * from.plane;
            pack(from, begin, kTiles, rows, inputs);
            reduce(gradients, kTile, conv.out, inputs, in_offsets.data(), rows,
                   {tiles, kTile, conv.out * kTile, rows * kTile}, sums + c / kChunk * chunk_share);
          }
          for (int64_t tile = 0; tile < tiles; ++tile) {
            multiply<high>(gradients + tile * conv.out * kTile, out_offsets, weights.rows(g, 0), {},
                           columns(conv, conv.in, g, dx), begin + tile * kTile, conv.in, spare);
          }
        }
      }
    }
  }
#pragma omp parallel for collapse(2)
  for (int64_t g = 0; g < conv.groups; ++g) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      float* sums = &shares[g * slices * share + chunk * chunk_share];
      sum_slices(sums, chunk_share, slices, share);
      take_sums(sums, conv.out, std::min(kChunk, conv.in - chunk * kChunk),
                dweight + g * conv.out * conv.in + chunk * kChunk, conv.in);
    }
  }
}

}  // namespace vargfacenet
