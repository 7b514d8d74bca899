// Convolutions by kernels of one number, and their gradients: products of matrices, whose columns are the pixels of all
// images, one image after another.
//
// Where a plane is a whole number of vectors, it is read and written where it is. Elsewhere columns are copied into tiles
// as wide as those of `gather`, in which the channels follow one another: a tile stays in the first-level cache and takes
// few pages, and tiles may span images that are smaller than vectors.
#pragma once

#include <algorithm>
#include <vector>

#include "panels.h"
#include "threads.h"
#include "weights.h"

namespace vargfacenet {

constexpr int64_t kTile = kLanes * kWide;    // columns
constexpr int64_t kTiles = 8;                // worked on at a time for the gradient of the weights
constexpr int64_t kChunk = 24;               // input channels that pass by meanwhile, a multiple of kTaps

inline bool is_pointwise(const Convolution& conv) { return conv.kernel == 1 && conv.stride == 1; }

// True where the planes need no copy.
inline bool is_direct(const Convolution& conv) {
  const int64_t plane = conv.in_height * conv.in_width;
  return plane % kLanes == 0 && plane >= kTile;
}

// Columns of the channels of a group, in a tensor (batch, all channels, plane).
template <typename Number>
struct Columns {
  Number* numbers;  // of the group's first channel
  int64_t plane, image_step, count;

  Number* at(int64_t column) const { return numbers + column / plane * image_step + column % plane; }

  // Calls visit(numbers, column, length) for each part of the columns `begin` to `end` that is in one image.
  template <typename Visit>
  void each(int64_t begin, int64_t end, Visit visit) const {
    for (int64_t column = begin; column < end;) {
      const int64_t length = std::min(plane - column % plane, end - column);
      visit(at(column), column - begin, length);
      column += length;
    }
  }
};

// The columns `begin` to `last` into tiles (rows, kTile), the last filled up with zeros; returns how many there are.
inline int64_t pack(const Columns<const float>& from, int64_t begin, int64_t last, int64_t rows, float* tiles) {
  int64_t number = 0;
  for (; begin < last; begin += kTile, ++number, tiles += rows * kTile) {
    const int64_t end = std::min(begin + kTile, last);
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

// Rows of a product for the columns of one tile, `begin` to `end`, into their places. `spare` (rows, kTile) is for results
// that vectors do not fit.
template <int high>
void multiply(const float* tile, const std::vector<int64_t>& offsets, const float* weights, Finish finish,
              const Columns<float>& to, int64_t begin, int64_t end, int64_t rows, float* spare) {
  const int64_t taps = offsets.size(), place = begin % to.plane, width = end - begin;
  if (width % kLanes == 0 && place + width <= to.plane) {
    gather<high>(tile, width, offsets.data(), taps, weights, finish, to.at(begin), to.plane, rows);
    return;
  }
  gather<high>(tile, width, offsets.data(), taps, weights, finish, spare, kTile, rows);
  to.each(begin, end, [&](float* numbers, int64_t column, int64_t length) {
    for (int64_t r = 0; r < rows; ++r) copy_row(spare + r * kTile + column, numbers + r * to.plane, length);
  });
}

inline std::vector<int64_t> row_offsets(int64_t rows, int64_t step) {
  std::vector<int64_t> offsets;
  for (int64_t k = 0; k < rows; ++k) offsets.push_back(k * step);
  return offsets;
}

template <typename Number>
Columns<Number> columns(const Convolution& conv, int64_t channels, int64_t group, Number* numbers) {
  const int64_t plane = conv.in_height * conv.in_width;
  return {numbers + group * channels * plane, plane, conv.groups * channels * plane, conv.batch * plane};
}

// The columns in blocks that are worked on together. With `direct` they are pieces of one image, of whole vectors and about
// kTiles * kTile columns. Otherwise they are copied into at most `tiles` tiles; blocks of a single one are about as wide as
// each other, as the narrowest tiles have too few sums to keep a processor busy.
struct Blocks {
  bool direct;
  int64_t plane, pieces, size, columns, count;

  Blocks(const Convolution& conv, int64_t tiles)
      : direct(is_direct(conv)), plane(conv.in_height * conv.in_width),
        pieces(std::max<int64_t>(1, plane / (kTiles * kTile))), size(tiles * kTile), columns(conv.batch * plane),
        count(direct ? conv.batch * pieces : (columns + size - 1) / size) {}
  int64_t begin(int64_t block) const {
    if (direct) return block / pieces * plane + block % pieces * (plane / kLanes) / pieces * kLanes;
    if (size > kTile) return std::min(block * size, columns);
    const int64_t vectors = (columns + kLanes - 1) / kLanes;
    return std::min(block * vectors / count * kLanes, columns);
  }
  int64_t end(int64_t block) const { return begin(block + 1); }
  int64_t length(int64_t block) const { return end(block) - begin(block); }
};

// As `conv_forward`, with a single y.
template <int high>
void pointwise_forward(const Convolution& conv, const float* x, const Weights& weights, Finish finish, float* y) {
  const Blocks blocks(conv, 1);
  const std::vector<int64_t> offsets = row_offsets(conv.in, blocks.direct ? blocks.plane : kTile);
  const Shares shares(conv.out, high, blocks.count * conv.groups);
#pragma omp parallel
  {
    Workspace workspace((conv.in + conv.out) * kTile + 32);
    float *packed = workspace.take(conv.in * kTile), *spare = workspace.take(conv.out * kTile);
    shares.divide([&](int64_t item, int64_t first, int64_t last) {
      const int64_t g = item / blocks.count, block = item % blocks.count;
      const int64_t begin = blocks.begin(block), rows = last - first;
      const float* tiles = weights.rows(g, first);
      const Finish own = finish.from(g * conv.out + first);
      const Columns<const float> from = columns(conv, conv.in, g, x);
      Columns<float> to = columns(conv, conv.out, g, y);
      to.numbers += first * blocks.plane;
      if (blocks.direct) {
        gather<high>(from.at(begin), blocks.length(block), offsets.data(), conv.in, tiles, own, to.at(begin),
                     blocks.plane, rows);
      } else {
        pack(from, begin, blocks.end(block), conv.in, packed);
        multiply<high>(packed, offsets, tiles, own, to, begin, blocks.end(block), rows, spare);
      }
    });
  }
}

// As `conv_backward`.
template <int high>
void pointwise_backward(const Convolution& conv, const float* dy, const float* x, const float* weight, float* dx,
                        float* dweight) {
  const Blocks blocks(conv, kTiles);
  const int64_t slices = std::min(blocks.count, std::max<int64_t>(1, 16 / conv.groups));
  const int64_t chunk = blocks.direct ? conv.in : kChunk, step = blocks.direct ? blocks.plane : kTile;
  const std::vector<int64_t> in_offsets = row_offsets(chunk, step), out_offsets = row_offsets(conv.out, step);
  const auto transposed = [&](int64_t g, int64_t c, int64_t o) { return weight[(g * conv.out + o) * conv.in + c]; };
  const Weights weights(high, conv.groups, conv.in, conv.out, by_number(high, conv.out, transposed));
  const int64_t chunk_size = sums_size(conv.out, chunk), chunks = (conv.in + chunk - 1) / chunk;
  const int64_t slice_size = chunks * chunk_size;
  std::vector<float> slice_sums(conv.groups * slices * slice_size);
#pragma omp parallel
  {
    Workspace workspace((conv.out + kChunk) * blocks.size + conv.in * kTile + 48);
    float *gradients = workspace.take(conv.out * blocks.size), *inputs = workspace.take(kChunk * blocks.size);
    float* spare = workspace.take(conv.in * kTile);
#pragma omp for collapse(2)
    for (int64_t slice = 0; slice < slices; ++slice) {
      for (int64_t g = 0; g < conv.groups; ++g) {
        const Columns<const float> above = columns(conv, conv.out, g, dy);
        const Columns<float> to = columns(conv, conv.in, g, dx);
        float* sums = &slice_sums[(g * slices + slice) * slice_size];
        for (int64_t block = slice * blocks.count / slices; block < (slice + 1) * blocks.count / slices; ++block) {
          const int64_t begin = blocks.begin(block);
          Columns<const float> from = columns(conv, conv.in, g, x);
          if (blocks.direct) {
            const int64_t length = blocks.length(block);
            reduce(above.at(begin), step, conv.out, from.at(begin), in_offsets.data(), conv.in, {1, length, 0, 0}, sums);
            gather<high>(above.at(begin), length, out_offsets.data(), conv.out, weights.rows(g, 0), {}, to.at(begin),
                         step, conv.in);
            continue;
          }
          const int64_t end = blocks.end(block), tiles = pack(above, begin, end, conv.out, gradients);
          for (int64_t c = 0; c < conv.in; c += chunk, from.numbers += chunk * blocks.plane) {
            const int64_t rows = std::min(chunk, conv.in - c);
            pack(from, begin, end, rows, inputs);
            reduce(gradients, kTile, conv.out, inputs, in_offsets.data(), rows,
                   {tiles, kTile, conv.out * kTile, rows * kTile}, sums + c / chunk * chunk_size);
          }
          for (int64_t tile = 0; tile < tiles; ++tile) {
            const int64_t first = begin + tile * kTile, last = std::min(first + kTile, end);
            multiply<high>(gradients + tile * conv.out * kTile, out_offsets, weights.rows(g, 0), {}, to, first, last,
                           conv.in, spare);
          }
        }
      }
    }
  }
#pragma omp parallel for collapse(2)
  for (int64_t g = 0; g < conv.groups; ++g) {
    for (int64_t number = 0; number < chunks; ++number) {
      float* sums = &slice_sums[g * slices * slice_size + number * chunk_size];
      sum_slices(sums, chunk_size, slices, slice_size);
      take_sums(sums, conv.out, std::min(chunk, conv.in - number * chunk),
                dweight + g * conv.out * conv.in + number * chunk, conv.in);
    }
  }
}

}  // namespace vargfacenet
