// Mutation test: the battery must find every seeded defect, and the shipped kernels must pass it.
#include "tests/cuda/defects.h"

#include <gtest/gtest.h>

#include <cstdio>

#include "tests/cuda/battery.h"

namespace battery {
namespace {

constinit const Defect* g_first = nullptr;

std::string shortened(std::string text) {
  if (const size_t end = text.find('\n'); end != std::string::npos) text.resize(end);
  return text.size() <= 110 ? text : text.substr(0, 107) + "...";
}

TEST(CudaDefects, EverySeededOne_IsFound) {
  ASSERT_EQ(all(mseloss::cuda::model::kernels(), false), "");
  int count = 0, found = 0;
  for (const Defect* defect = g_first; defect != nullptr; defect = defect->next, ++count) {
    Table table = mseloss::cuda::model::kernels();
    defect->fill(&table);
    const std::string finding = all(table, false);
    found += !finding.empty();
    std::printf("| %-45s | %s\n", defect->name, finding.empty() ? "NOT FOUND" : shortened(finding).c_str());
    EXPECT_NE(finding, "") << defect->name;
  }
  std::printf("%d of %d seeded defects found\n", found, count);
  EXPECT_GE(count, 30);
}

}  // namespace

Defect::Defect(const char* given_name, void (*given_fill)(Table*))
    : name(given_name), fill(given_fill), next(g_first) {
  g_first = this;
}

}  // namespace battery
