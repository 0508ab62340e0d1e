// Stands in for the JSON library that PyTorch's headers of torch.func include, but PyTorch does not contain.
// They use it to store levels, which the compiled step never does: nothing here has a definition.
#pragma once

#include <string>

namespace nlohmann {

struct json {
  json() = default;
  template <class T>
  json(const T& value);
  static json parse(const std::string& text);
  template <class T>
  T get() const;
  std::string dump() const;
};

}  // namespace nlohmann
