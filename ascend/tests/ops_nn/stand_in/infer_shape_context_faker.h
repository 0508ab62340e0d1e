// Stand-in for ops-nn's builder of contexts in unit tests.
#pragma once

#include "model_gert.h"

namespace gert {

class InferShapeContextFaker {
 public:
  InferShapeContextFaker& SetOpType(const std::string&) { return *this; }
  InferShapeContextFaker& NodeIoNum(size_t, size_t) { return *this; }
  InferShapeContextFaker& NodeInputTd(size_t, ge::DataType, ge::Format, ge::Format) { return *this; }
  InferShapeContextFaker& NodeOutputTd(size_t, ge::DataType, ge::Format, ge::Format) { return *this; }
  InferShapeContextFaker& InputShapes(const std::vector<StorageShape*>& shapes) {
    for (const StorageShape* shape : shapes) {
      context_.inputs.push_back(shape->origin);
    }
    return *this;
  }
  InferShapeContextFaker& OutputShapes(const std::vector<StorageShape*>&) { return *this; }
  InferShapeContextFaker Build() const { return *this; }
  template <typename Context>
  Context* GetContext() {
    return &context_;
  }

 private:
  InferShapeContext context_;
};

}  // namespace gert
