// The kernels as operators of MXNet 1.9.1, through its extension interface.
//
// That interface passes dense tensors in row-major order, does not distinguish training from inference (BN here is BN in
// training), and needs a gradient for every input, including the running statistics.
#include <string>
#include <unordered_map>
#include <vector>

#include "mxnet/lib_api.h"
#include "conv.h"
#include "excitation.h"
#include "join.h"
#include "norm.h"
#include "peak.h"
#include "pointwise.h"
#include "prelu.h"
#include "resize.h"
#include "scale.h"
#include "winograd.h"

using mxnet::ext::CustomOp;
using mxnet::ext::MX_FAIL;
using mxnet::ext::MX_SUCCESS;
using mxnet::ext::MXReturnValue;
using mxnet::ext::MXTensor;
using mxnet::ext::OpResource;
using namespace vargfacenet;

namespace {

using Attributes = std::unordered_map<std::string, std::string>;
using Tensors = std::vector<MXTensor>;
using Shapes = std::vector<std::vector<unsigned int>>;

float* numbers(Tensors* tensors, size_t place) { return (*tensors)[place].data<float>(); }

Planes planes(Tensors* tensors, size_t place) { return Planes((*tensors)[place].shape); }

struct Size {
  int place;
  int64_t numbers;
};

// Whether inputs have as many numbers as the others ask for. MXNet does not check what is not in a graph's shapes.
bool has_sizes(Tensors* in, const std::vector<Size>& sizes) {
  for (const Size& size : sizes) {
    const int64_t found = in->at(size.place).size();
    if (found == size.numbers) continue;
    MX_ERROR_MSG << "input " << size.place << " has " << found << " numbers, expected " << size.numbers;
    return false;
  }
  return true;
}

Normalisation normalisation(const Attributes& attributes) {
  return {std::stof(attributes.at("eps")), std::stof(attributes.at("momentum")), attributes.at("fix_gamma") == "True"};
}

// Of convolutions of one input; without an attribute there is one.
template <int inputs>
MXReturnValue branch_arity(const Attributes& attributes, int* num_inputs, int* num_outputs) {
  *num_inputs = inputs;
  *num_outputs = attributes.count("branches") ? std::stoi(attributes.at("branches")) : 1;
  return MX_SUCCESS;
}

template <int inputs, int outputs>
MXReturnValue arity(const Attributes&, int* num_inputs, int* num_outputs) {
  *num_inputs = inputs;
  *num_outputs = outputs;
  return MX_SUCCESS;
}

MXReturnValue all_float32(const Attributes&, std::vector<int>* inputs, std::vector<int>* outputs) {
  for (int& type : *inputs) {
    if (type != mxnet::ext::kFloat32 && type != -1) {
      MX_ERROR_MSG << "native operators take float32 only";
      return MX_FAIL;
    }
    type = mxnet::ext::kFloat32;
  }
  for (int& type : *outputs) type = mxnet::ext::kFloat32;
  return MX_SUCCESS;
}

MXReturnValue all_dense(const Attributes&, std::vector<int>* inputs, std::vector<int>* outputs) {
  for (int& type : *inputs) type = mxnet::ext::kDefaultStorage;
  for (int& type : *outputs) type = mxnet::ext::kDefaultStorage;
  return MX_SUCCESS;
}

// The first output has the first input's shape; a second one, if any, is (2, C). Other inputs are known by their names'
// own attributes.
MXReturnValue shape_of_data(const Attributes&, Shapes* inputs, Shapes* outputs) {
  const auto& data = (*inputs)[0];
  (*outputs)[0] = data;
  if (outputs->size() > 1 && data.size() > 1) (*outputs)[1] = {2, data[1]};
  return MX_SUCCESS;
}

MXReturnValue shape_of_mean(const Attributes&, Shapes* inputs, Shapes* outputs) {
  auto shape = (*inputs)[0];
  for (size_t axis = 2; axis < shape.size(); ++axis) shape[axis] = 1;
  (*outputs)[0] = shape;
  return MX_SUCCESS;
}

template <int last>
MXReturnValue last_two_change(const Attributes&, std::vector<int>* places) {
  *places = {last - 1, last};
  return MX_SUCCESS;
}

MXReturnValue run_prelu(const Attributes&, Tensors* in, Tensors* out, const OpResource&) {
  prelu_forward(planes(in, 0), numbers(in, 0), numbers(in, 1), numbers(out, 0));
  return MX_SUCCESS;
}

MXReturnValue run_prelu_gradient(const Attributes&, Tensors* in, Tensors* out, const OpResource&) {
  prelu_backward(planes(in, 0), numbers(in, 0), numbers(in, 1), numbers(in, 2), numbers(out, 0), numbers(out, 1));
  return MX_SUCCESS;
}

// Inputs x, gamma, beta, [slope,] running mean, running variance; outputs y, saved.
template <bool with_prelu>
MXReturnValue run_norm(const Attributes& attributes, Tensors* in, Tensors* out, const OpResource&) {
  const int running = with_prelu ? 4 : 3;
  norm_forward(planes(in, 0), normalisation(attributes), numbers(in, 0), numbers(in, 1), numbers(in, 2),
               with_prelu ? numbers(in, 3) : nullptr, numbers(in, running), numbers(in, running + 1), numbers(out, 0),
               numbers(out, 1));
  return MX_SUCCESS;
}

// Inputs: gradients of y and of saved; the forward pass's inputs; its outputs.
template <bool with_prelu>
MXReturnValue run_norm_gradient(const Attributes& attributes, Tensors* in, Tensors* out, const OpResource&) {
  const int saved = with_prelu ? 9 : 8;
  norm_backward(planes(in, 0), normalisation(attributes), numbers(in, 0), numbers(in, 2), numbers(in, 3),
                numbers(in, 4), with_prelu ? numbers(in, 5) : nullptr, numbers(in, saved), numbers(out, 0),
                numbers(out, 1), numbers(out, 2), with_prelu ? numbers(out, 3) : nullptr);
  return MX_SUCCESS;
}

MXReturnValue run_scale(const Attributes&, Tensors* in, Tensors* out, const OpResource&) {
  scale_forward(planes(in, 0), numbers(in, 0), numbers(in, 1), numbers(out, 0));
  return MX_SUCCESS;
}

MXReturnValue run_scale_gradient(const Attributes&, Tensors* in, Tensors* out, const OpResource&) {
  scale_backward(planes(in, 0), numbers(in, 0), numbers(in, 1), numbers(in, 2), numbers(out, 0), numbers(out, 1));
  return MX_SUCCESS;
}

// Inputs data, other, slope[, weight].
template <bool with_scale>
MXReturnValue run_join(const Attributes&, Tensors* in, Tensors* out, const OpResource&) {
  join_forward(planes(in, 0), numbers(in, 0), with_scale ? numbers(in, 3) : nullptr, numbers(in, 1), numbers(in, 2),
               numbers(out, 0));
  return MX_SUCCESS;
}

template <bool with_scale>
MXReturnValue run_join_gradient(const Attributes&, Tensors* in, Tensors* out, const OpResource&) {
  join_backward(planes(in, 0), numbers(in, 0), numbers(in, 1), with_scale ? numbers(in, 4) : nullptr, numbers(in, 2),
                numbers(in, 3), numbers(out, 0), with_scale ? numbers(out, 3) : nullptr, numbers(out, 1),
                numbers(out, 2));
  return MX_SUCCESS;
}

MXReturnValue run_mean(const Attributes&, Tensors* in, Tensors* out, const OpResource&) {
  mean_forward(planes(in, 0), numbers(in, 0), numbers(out, 0));
  return MX_SUCCESS;
}

MXReturnValue run_mean_gradient(const Attributes&, Tensors* in, Tensors* out, const OpResource&) {
  mean_backward(planes(in, 1), numbers(in, 0), numbers(out, 0));
  return MX_SUCCESS;
}

MXReturnValue shape_of_resize(const Attributes& attributes, Shapes* inputs, Shapes* outputs) {
  auto shape = (*inputs)[0];
  if (shape.size() == 4) {
    shape[2] = std::stoi(attributes.at("height"));
    shape[3] = std::stoi(attributes.at("width"));
  }
  (*outputs)[0] = shape;
  return MX_SUCCESS;
}

Resize resize(const Attributes& attributes, const MXTensor& x, const MXTensor& y) {
  const bool corners = attributes.at("align_corners") == "True";
  return {x.shape[0] * x.shape[1], x.shape[2], x.shape[3], y.shape[2], y.shape[3], corners};
}

MXReturnValue run_resize(const Attributes& attributes, Tensors* in, Tensors* out, const OpResource&) {
  resize_forward(resize(attributes, in->at(0), out->at(0)), numbers(in, 0), numbers(out, 0));
  return MX_SUCCESS;
}

MXReturnValue run_resize_gradient(const Attributes& attributes, Tensors* in, Tensors* out, const OpResource&) {
  resize_backward(resize(attributes, in->at(1), in->at(0)), numbers(in, 0), numbers(out, 0));
  return MX_SUCCESS;
}

// Inputs x, weight and bias of the first layer, slope, weight and bias of the second.
MXReturnValue run_excitation(const Attributes&, Tensors* in, Tensors* out, const OpResource&) {
  const int64_t channels = in->at(0).shape[1], middle = in->at(2).size();
  if (!has_sizes(in, {{1, middle * channels}, {3, middle}, {4, channels * middle}, {5, channels}})) return MX_FAIL;
  const auto layer = [&](size_t place) {
    const MXTensor& weight = in->at(place);
    return Linear{numbers(in, place), numbers(in, place + 1), weight.shape[1], weight.shape[0]};
  };
  excitation_forward(planes(in, 0), numbers(in, 0), layer(1), numbers(in, 3), layer(4), numbers(out, 0));
  return MX_SUCCESS;
}

MXReturnValue shape_of_convolution(const Attributes& attributes, Shapes* inputs, Shapes* outputs) {
  auto shape = (*inputs)[0];
  if (shape.size() == 4) {
    const int stride = std::stoi(attributes.at("stride"));
    shape[1] = std::stoi(attributes.at("channels"));
    for (int axis = 2; axis < 4; ++axis) shape[axis] = (shape[axis] - 1) / stride + 1;
  }
  for (auto& output : *outputs) output = shape;
  return MX_SUCCESS;
}

Convolution convolution(const Attributes& attributes, MXTensor* x, MXTensor* weight, MXTensor* y) {
  const int64_t groups = std::stoi(attributes.at("groups")), kernel = weight->shape[2];
  return {x->shape[0], weight->shape[1], weight->shape[0] / groups, groups, kernel,
          std::stoi(attributes.at("stride")), (kernel - 1) / 2,
          x->shape[2], x->shape[3], y->shape[2], y->shape[3]};
}

void forward(const Convolution& conv, const float* x, const Weights& weights, Finish finish,
             const std::vector<float*>& ys) {
  const bool single = forward_rows(conv) == 1;
  if (is_pointwise(conv)) {
    (single ? pointwise_forward<1> : pointwise_forward<kRows>)(conv, x, weights, finish, ys[0]);
  } else if (is_winograd(conv)) {
    winograd_forward<kRows>(conv, x, weights, finish, ys);
  } else {
    (single ? conv_forward<1> : conv_forward<kRows>)(conv, x, weights, finish, ys);
  }
}

MXReturnValue run_convolution(const Attributes& attributes, Tensors* in, Tensors* out, const OpResource&) {
  const Convolution conv = convolution(attributes, &in->at(0), &in->at(1), &out->at(0));
  forward(conv, numbers(in, 0), forward_weights(conv, plain_weights(conv, numbers(in, 1))), {}, {numbers(out, 0)});
  return MX_SUCCESS;
}

// Inputs x, weight, gamma, beta, mean, variance[, slope].
template <bool with_prelu>
MXReturnValue run_inference(const Attributes& attributes, Tensors* in, Tensors* out, const OpResource&) {
  const Convolution conv = convolution(attributes, &in->at(0), &in->at(1), &out->at(0));
  const float *gamma = numbers(in, 2), *beta = numbers(in, 3), *mean = numbers(in, 4), *variance = numbers(in, 5);
  const bool fix_gamma = attributes.at("fix_gamma") == "True";
  const float eps = std::stof(attributes.at("eps"));
  std::vector<float> factors(conv.groups * conv.out), shifts(conv.groups * conv.out);
  for (size_t c = 0; c < factors.size(); ++c) {
    factors[c] = (fix_gamma ? 1 : gamma[c]) / std::sqrt(variance[c] + eps);
    shifts[c] = beta[c] - mean[c] * factors[c];
  }
  const Finish finish = {shifts.data(), with_prelu ? numbers(in, 6) : nullptr};
  const auto scaled = [weight = plain_weights(conv, numbers(in, 1)), &factors, &conv](int64_t g, int64_t r, int64_t k) {
    return weight(g, r, k) * factors[g * conv.out + r];
  };
  forward(conv, numbers(in, 0), forward_weights(conv, scaled), finish, {numbers(out, 0)});
  return MX_SUCCESS;
}

// The same with weights that are in their order already (`vargfacenet.operators.inference`), and factors in them. Inputs x,
// weights, shifts[, slope]. Several outputs are those of several convolutions of x, which has no 1x1 kernel then.
template <bool with_prelu>
MXReturnValue run_packed(const Attributes& attributes, Tensors* in, Tensors* out, const OpResource&) {
  const MXTensor &x = in->at(0), &y = out->at(0);
  const int64_t groups = std::stoi(attributes.at("groups")), kernel = std::stoi(attributes.at("kernel"));
  const int64_t channels = y.shape[1] * out->size();
  const Convolution conv = {x.shape[0], x.shape[1] / groups, channels / groups, groups, kernel,
                            std::stoi(attributes.at("stride")), (kernel - 1) / 2,
                            x.shape[2], x.shape[3], y.shape[2], y.shape[3]};
  const Weights weights = packed_weights(conv, numbers(in, 1));
  if (out->size() > 1 && is_pointwise(conv)) {
    MX_ERROR_MSG << "several branches of 1x1 convolutions, expected one";
    return MX_FAIL;
  }
  if (!has_sizes(in, {{1, weights.size()}, {2, channels}, {with_prelu ? 3 : 2, channels}})) return MX_FAIL;
  std::vector<float*> ys;
  for (size_t branch = 0; branch < out->size(); ++branch) ys.push_back(numbers(out, branch));
  forward(conv, numbers(in, 0), weights, {numbers(in, 2), with_prelu ? numbers(in, 3) : nullptr}, ys);
  return MX_SUCCESS;
}

MXReturnValue run_convolution_gradient(const Attributes& attributes, Tensors* in, Tensors* out, const OpResource&) {
  const Convolution conv = convolution(attributes, &in->at(1), &in->at(2), &in->at(0));
  const auto run = is_pointwise(conv) ? pointwise_backward<kRows> : conv.in == 1 ? conv_backward<1> : conv_backward<kRows>;
  const bool apart = is_winograd(transposed(conv));
  if (apart) winograd_backward<kRows>(conv, numbers(in, 0), numbers(in, 2), numbers(out, 0));
  run(conv, numbers(in, 0), numbers(in, 1), numbers(in, 2), apart ? nullptr : numbers(out, 0), numbers(out, 1));
  return MX_SUCCESS;
}

}  // namespace

#define ON_CPU(forward, gradient) \
  setForward(forward, "cpu").setBackward(gradient, "cpu").setInferType(all_float32).setInferSType(all_dense)

REGISTER_OP(vargfacenet_prelu)
    .ON_CPU(run_prelu, run_prelu_gradient)
    .setParseAttrs(arity<2, 1>)
    .setInferShape(shape_of_data);

REGISTER_OP(vargfacenet_norm)
    .ON_CPU(run_norm<false>, run_norm_gradient<false>)
    .setParseAttrs(arity<5, 2>)
    .setInferShape(shape_of_data)
    .setMutateInputs(last_two_change<4>);

REGISTER_OP(vargfacenet_norm_prelu)
    .ON_CPU(run_norm<true>, run_norm_gradient<true>)
    .setParseAttrs(arity<6, 2>)
    .setInferShape(shape_of_data)
    .setMutateInputs(last_two_change<5>);

REGISTER_OP(vargfacenet_scale)
    .ON_CPU(run_scale, run_scale_gradient)
    .setParseAttrs(arity<2, 1>)
    .setInferShape(shape_of_data);

REGISTER_OP(vargfacenet_join)
    .ON_CPU(run_join<false>, run_join_gradient<false>)
    .setParseAttrs(arity<3, 1>)
    .setInferShape(shape_of_data);

REGISTER_OP(vargfacenet_join_scaled)
    .ON_CPU(run_join<true>, run_join_gradient<true>)
    .setParseAttrs(arity<4, 1>)
    .setInferShape(shape_of_data);

REGISTER_OP(vargfacenet_mean)
    .ON_CPU(run_mean, run_mean_gradient)
    .setParseAttrs(arity<1, 1>)
    .setInferShape(shape_of_mean);

REGISTER_OP(vargfacenet_resize)
    .ON_CPU(run_resize, run_resize_gradient)
    .setParseAttrs(arity<1, 1>)
    .setInferShape(shape_of_resize);

REGISTER_OP(vargfacenet_convolution)
    .ON_CPU(run_convolution, run_convolution_gradient)
    .setParseAttrs(arity<2, 1>)
    .setInferShape(shape_of_convolution);

#define INFERENCE(run, parse, shape) \
  setForward(run, "cpu")             \
      .setInferType(all_float32)     \
      .setInferSType(all_dense)      \
      .setParseAttrs(parse)          \
      .setInferShape(shape)

REGISTER_OP(vargfacenet_inference)
    .INFERENCE(run_inference<false>, (arity<6, 1>), shape_of_convolution)
    .setMutateInputs(last_two_change<5>);

REGISTER_OP(vargfacenet_inference_prelu)
    .INFERENCE(run_inference<true>, (arity<7, 1>), shape_of_convolution)
    .setMutateInputs(last_two_change<5>);

REGISTER_OP(vargfacenet_packed).INFERENCE(run_packed<false>, branch_arity<3>, shape_of_convolution);
REGISTER_OP(vargfacenet_packed_prelu).INFERENCE(run_packed<true>, branch_arity<4>, shape_of_convolution);
REGISTER_OP(vargfacenet_excitation).INFERENCE(run_excitation, (arity<6, 1>), shape_of_mean);

extern "C" double vargfacenet_peak_gflops() { return peak_gflops(); }

// Puts weights (groups * out, in, kernel, kernel) into the order of the forward pass, unless `packed` is null; returns how
// many numbers that takes. It is called by a thread of Python, whose team of threads would slow down MXNet's.
extern "C" int64_t vargfacenet_pack(int64_t in, int64_t out, int64_t groups, int64_t kernel, int64_t stride,
                                    const float* weight, float* packed) {
  const Convolution conv = {1, in, out, groups, kernel, stride, 0, 0, 0, 0, 0};
  if (packed) {
    const Weights weights = forward_weights(conv, plain_weights(conv, weight), false);
    std::copy(weights.rows(0, 0), weights.rows(0, 0) + weights.size(), packed);
  }
  return packed_weights(conv, nullptr).size();
}

mxnet::ext::MXReturnValue initialize(int version) {
  if (version >= 10900 && version < 11000) return MX_SUCCESS;
  MX_ERROR_MSG << "MXNet of another version: " << version;
  return MX_FAIL;
}
