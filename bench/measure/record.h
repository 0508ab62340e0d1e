// Results as JSON, in the format that peers.py also writes.
#pragma once

#include <sstream>

#include "bench/cases/case.h"
#include "bench/measure/timing.h"

namespace bench {

class Record {
 public:
  explicit Record(std::string form);
  void add(const Case& c, const Traffic& moved, const std::vector<Timing>& timings,
           const std::string& explain);
  void fail(const Case& c, const std::string& error);
  // Prints the cases of a group with the lowest ratios to the ceiling.
  void print_worst(const std::string& group, int count) const;
  void write(const std::string& path) const;

 private:
  struct Entry {
    std::string id, group, explain, json;
    double ratio;
  };
  std::string form_, start_;
  std::vector<Entry> entries_;
};

}  // namespace bench
