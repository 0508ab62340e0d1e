// Replacement for CANN's operator registration: stores the definition for the tests.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "model_gert.h"

namespace ops {

enum Option { REQUIRED, OPTIONAL, DYNAMIC };

class OpParamDef {
 public:
  explicit OpParamDef(const char* param_name) : name(param_name) {}
  OpParamDef& ParamType(Option value) { return param_type = value, *this; }
  OpParamDef& DataType(std::vector<ge::DataType> value) { return dtypes = std::move(value), *this; }
  OpParamDef& Format(std::vector<ge::Format> value) { return formats = std::move(value), *this; }
  OpParamDef& UnknownShapeFormat(std::vector<ge::Format> value) {
    return unknown_formats = std::move(value), *this;
  }
  OpParamDef& AutoContiguous() { return contiguous = true, *this; }

  std::string name;
  Option param_type = DYNAMIC;
  std::vector<ge::DataType> dtypes;
  std::vector<ge::Format> formats;
  std::vector<ge::Format> unknown_formats;
  bool contiguous = false;
};

class OpAttrDef {
 public:
  explicit OpAttrDef(const char* attr_name) : name(attr_name) {}
  OpAttrDef& AttrType(Option value) { return attr_type = value, *this; }
  OpAttrDef& String(const char* value) { return default_value = value, *this; }

  std::string name;
  Option attr_type = REQUIRED;
  std::string default_value;
};

// The differences of one chip from the operator's definition.
class OpAICoreConfig {
 public:
  OpParamDef& Input(const char* name) { return inputs.emplace_back(name); }
  OpParamDef& Output(const char* name) { return outputs.emplace_back(name); }
  OpAICoreConfig& DynamicCompileStaticFlag(bool value) { return Flag("dynamicCompileStatic", value); }
  OpAICoreConfig& DynamicFormatFlag(bool value) { return Flag("dynamicFormat", value); }
  OpAICoreConfig& DynamicRankSupportFlag(bool value) { return Flag("dynamicRankSupport", value); }
  OpAICoreConfig& DynamicShapeSupportFlag(bool value) { return Flag("dynamicShapeSupport", value); }
  OpAICoreConfig& NeedCheckSupportFlag(bool value) { return Flag("needCheckSupport", value); }
  OpAICoreConfig& PrecisionReduceFlag(bool value) { return Flag("precisionReduce", value); }

  std::deque<OpParamDef> inputs;
  std::deque<OpParamDef> outputs;
  std::map<std::string, bool> flags;

 private:
  OpAICoreConfig& Flag(const char* name, bool value) { return flags[name] = value, *this; }
};

class OpAICoreDef {
 public:
  OpAICoreDef& SetTiling(ge::graphStatus (*function)(gert::TilingContext*)) {
    return tiling = function, *this;
  }
  OpAICoreDef& AddConfig(const char* soc) { return configs.emplace_back(soc, OpAICoreConfig()), *this; }
  // CANN takes a reference here, so a temporary does not compile.
  OpAICoreDef& AddConfig(const char* soc, OpAICoreConfig& config) {
    return configs.emplace_back(soc, config), *this;
  }

  ge::graphStatus (*tiling)(gert::TilingContext*) = nullptr;
  std::vector<std::pair<std::string, OpAICoreConfig>> configs;
};

class OpDef {
 public:
  explicit OpDef(const char* type) : type(type) {}
  OpParamDef& Input(const char* name) { return inputs.emplace_back(name); }
  OpParamDef& Output(const char* name) { return outputs.emplace_back(name); }
  OpAttrDef& Attr(const char* name) { return attrs.emplace_back(name); }
  OpAICoreDef& AICore() { return ai_core; }
  OpDef& SetInferShape(ge::graphStatus (*function)(gert::InferShapeContext*)) {
    return infer_shape = function, *this;
  }
  OpDef& SetInferDataType(ge::graphStatus (*function)(gert::InferDataTypeContext*)) {
    return infer_data_type = function, *this;
  }

  std::string type;
  std::deque<OpParamDef> inputs;
  std::deque<OpParamDef> outputs;
  std::deque<OpAttrDef> attrs;
  OpAICoreDef ai_core;
  ge::graphStatus (*infer_shape)(gert::InferShapeContext*) = nullptr;
  ge::graphStatus (*infer_data_type)(gert::InferDataTypeContext*) = nullptr;
};

}  // namespace ops

// A function instead of CANN's registrar object, which a linker would drop from a static library.
#define OP_ADD(type)                 \
  OpDef& ModelDefinitionOf##type() { \
    static type definition(#type);   \
    return definition;               \
  }
