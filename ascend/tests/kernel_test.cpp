#include "model/run.h"
#include <gtest/gtest.h>
#include <vector>
TEST(Smoke, Flat) {
  for (int64_t n : {1, 7, 1000, 100000, 1000003}) {
  std::vector<float> x(n), y(n), o(n);
  for (int64_t i=0;i<n;++i){x[i]=i*0.37f;y[i]=i*0.11f-3;}
  float g=1.5f;
  ascend_model::Request r; r.predict={{n},x.data()}; r.label={{n},y.data()}; r.dout={{},&g}; r.y_shape={n}; r.y=o.data();
  ascend_model::Counters c;
  EXPECT_EQ(ascend_model::Run(r,&c),"");
  printf("%ld in %lu out %lu overlap %.2f\n", n, c.bytes_in,c.bytes_out,c.overlap_cycles/c.vector_cycles);
  }
}
