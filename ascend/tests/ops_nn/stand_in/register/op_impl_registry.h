// Stand-in for CANN's registry of functions that are not part of an operator definition.
#pragma once

#include <map>
#include <string>

#include "model_gert.h"

namespace gert {

struct TilingParseContext {};

struct OpImpl {
  ge::graphStatus (*infer_shape)(InferShapeContext*) = nullptr;
  ge::graphStatus (*infer_datatype)(InferDataTypeContext*) = nullptr;
  ge::graphStatus (*tiling)(TilingContext*) = nullptr;
  ge::graphStatus (*tiling_parse)(TilingParseContext*) = nullptr;
};

class OpImplRegistry {
 public:
  static OpImplRegistry& GetInstance() {
    static OpImplRegistry registry;
    return registry;
  }
  const OpImpl* GetOpImpl(const char* type) const {
    const auto found = all.find(type);
    return found == all.end() ? nullptr : &found->second;
  }
  std::map<std::string, OpImpl> all;
};

struct OpImplRegister {
  explicit OpImplRegister(const char* type) : impl(OpImplRegistry::GetInstance().all[type]) {}
  OpImplRegister& InferShape(ge::graphStatus (*f)(InferShapeContext*)) { return impl.infer_shape = f, *this; }
  OpImplRegister& InferDataType(ge::graphStatus (*f)(InferDataTypeContext*)) {
    return impl.infer_datatype = f, *this;
  }
  OpImplRegister& Tiling(ge::graphStatus (*f)(TilingContext*)) { return impl.tiling = f, *this; }
  template <typename CompileInfo>
  OpImplRegister& TilingParse(ge::graphStatus (*f)(TilingParseContext*)) {
    return impl.tiling_parse = f, *this;
  }
  OpImpl& impl;
};

}  // namespace gert

#define IMPL_OP_INFERSHAPE(type) \
  [[maybe_unused]] static gert::OpImplRegister infer_##type = gert::OpImplRegister(#type)
#define IMPL_OP_OPTILING(type) \
  [[maybe_unused]] static gert::OpImplRegister tiling_##type = gert::OpImplRegister(#type)
