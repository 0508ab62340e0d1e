#include "plan/arguments.h"

#include <algorithm>

namespace mseloss {

Status dtype_error(const Argument& argument) {
  return Status::error(Code::kDType, "%s: expected float32, float16, bfloat16 or float64, got dtype code %d",
                       argument.name, static_cast<int>(argument.view->dtype));
}

Status reduction_error(Reduction reduction) {
  return Status::error(Code::kReduction, "reduction: expected none (0), mean (1) or sum (2), got %d",
                       static_cast<int>(reduction));
}

Status check_rank(const Argument& argument) {
  if (argument.view->shape.size() <= kMaxRank) return {};
  return Status::error(Code::kRank, "%s: expected at most %d dimensions, got %zu", argument.name, kMaxRank,
                       argument.view->shape.size());
}

Status check_extents(const Argument& argument) {
  const View& view = *argument.view;
  if (!view.strides.empty() && view.strides.size() != view.shape.size()) {
    return Status::error(Code::kShape, "%s: expected %zu strides, one for each dimension, got %zu",
                         argument.name, view.shape.size(), view.strides.size());
  }
  int64_t count = 1;
  bool fits = true, empty = false;
  for (const int64_t extent : view.shape) {
    if (extent < 0) {
      return Status::error(Code::kShape, "%s: expected extents of at least 0, got shape %s", argument.name,
                           ShapeText(view).text);
    }
    empty = empty || extent == 0;
    if (extent != 0) fits = fits && !__builtin_mul_overflow(count, extent, &count);
  }
  int64_t reach = size_of(view.dtype), bytes;
  if (view.strides.empty()) {
    fits = fits && !__builtin_mul_overflow(count, reach, &bytes);
  } else if (!empty) {
    for (size_t i = 0; i < view.shape.size(); ++i) {
      const int64_t stride = view.strides[i];
      if (view.shape[i] == 1) continue;
      fits = fits && stride != INT64_MIN &&
             !__builtin_mul_overflow(stride < 0 ? -stride : stride, view.shape[i] - 1, &bytes) &&
             !__builtin_mul_overflow(bytes, int64_t{size_of(view.dtype)}, &bytes) &&
             !__builtin_add_overflow(reach, bytes, &reach);
    }
  }
  if (fits) return {};
  return Status::error(Code::kShape, "%s: expected a view of less than 2^63 elements and bytes, got shape %s",
                       argument.name, ShapeText(view).text);
}

Status broadcast(Arguments arguments, BroadcastShape* shape) {
  for (const Argument& argument : arguments) {
    shape->rank = std::max(shape->rank, static_cast<int>(argument.view->shape.size()));
  }
  std::fill_n(shape->extent, kMaxRank, 1);
  for (const Argument& argument : arguments) {
    const auto& extents = argument.view->shape;
    int64_t* aligned = shape->extent + shape->rank - extents.size();
    for (size_t i = 0; i < extents.size(); ++i) {
      if (extents[i] == aligned[i] || extents[i] == 1) continue;
      if (aligned[i] == 1) {
        aligned[i] = extents[i];
        continue;
      }
      return Status::error(Code::kShape, "%s: expected a shape that broadcasts with %s, got %s",
                           argument.name, ShapeText(shape->extent, shape->rank).text,
                           ShapeText(*argument.view).text);
    }
  }
  if (std::find(shape->extent, shape->extent + shape->rank, 0) != shape->extent + shape->rank) {
    shape->count = 0;
    return {};
  }
  for (int i = 0; i < shape->rank; ++i) {
    if (__builtin_mul_overflow(shape->count, shape->extent[i], &shape->count)) {
      return Status::error(Code::kShape, "%s: expected a broadcast shape of less than 2^63 elements, got %s",
                           arguments[0].name, ShapeText(shape->extent, shape->rank).text);
    }
  }
  return {};
}

Status check_output_shape(const Argument& out, const BroadcastShape& shape) {
  const auto& extents = out.view->shape;
  if (static_cast<int>(extents.size()) == shape.rank &&
      std::equal(extents.begin(), extents.end(), shape.extent)) {
    return {};
  }
  return Status::error(Code::kShape, "%s: expected the broadcast shape %s, got %s", out.name,
                       ShapeText(shape.extent, shape.rank).text, ShapeText(*out.view).text);
}

Status check_scalar_output(const Argument& out) {
  if (out.view->shape.empty()) return {};
  return Status::error(Code::kShape, "%s: expected a 0-dimensional tensor for reduction mean or sum, got %s",
                       out.name, ShapeText(*out.view).text);
}

Status self_overlap_error(const Argument& out) {
  return Status::error(Code::kOverlap,
                       "%s: expected strides that map every index to its own memory, got a view of shape %s "
                       "whose elements overlap",
                       out.name, ShapeText(*out.view).text);
}

Status overlap_error(const char* out, const char* other, bool exact_allowed) {
  return Status::error(Code::kOverlap, "%s: expected memory that does not overlap %s%s, got %s overlap", out,
                       other, exact_allowed ? " or is identical to it (same address, strides and dtype)" : "",
                       exact_allowed ? "a partial" : "an");
}

}  // namespace mseloss
