#include "fit/probe.h"

#include <filesystem>

#include "fit/storage_rate.h"
#include "support/support.h"

namespace shoehorn::fit {
namespace {

TEST(Probe, MeasuresWhatWasAskedFor) {
  NoProgress progress;
  ProbeOptions options;
  options.formats = {quant::Type::Q4_K};
  options.n_threads = 1;
  options.weight_bytes = uint64_t{256} << 20;
  ASSERT_EXPECTED(const Device device, probe(options, progress));
  ASSERT_EQ(device.formats.size(), 1u);
  const FormatRates& rates = device.formats.at(quant::Type::Q4_K);
  EXPECT_GT(rates.read, 1e7);
  EXPECT_GT(rates.macs, 1e8);
  EXPECT_EQ(device.attention.size(), 2u);
  for (const auto& [head_dim, attention] : device.attention) {
    EXPECT_GT(attention.macs, 1e7) << head_dim;
    EXPECT_GT(attention.read, 1e6) << head_dim;
  }
  EXPECT_EQ(device.cores, 1);
  EXPECT_GT(device.ram, uint64_t{256} << 20);
  ASSERT_EXPECTED(const Device again, parse_device(to_toml(device), "probe"));
  EXPECT_TRUE(again.measured());
}

TEST(Probe, TooLittleMemoryIsSaid) {
  NoProgress progress;
  ProbeOptions options;
  options.weight_bytes = 1 << 20;
  const auto device = probe(options, progress);
  ASSERT_FALSE(device.has_value());
  EXPECT_EQ(device.error().code, ErrorCode::kTooLarge);
}

TEST(Probe, TheDisk) {
  NoProgress progress;
  const std::string dir = test::temp_dir();
  ASSERT_EXPECTED(const double rate, storage_rate(dir, progress));
  EXPECT_GT(rate, 1e5);
  EXPECT_TRUE(std::filesystem::is_empty(dir));
  EXPECT_FALSE(storage_rate(dir + "/not-there", progress).has_value());
}

}  // namespace
}  // namespace shoehorn::fit
