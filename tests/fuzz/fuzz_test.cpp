// The fuzz targets without a fuzzer: seeds are taken, damaged ones do no harm, and what was found once stays mended.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <random>

#include "fuzz/seeds.h"
#include "fuzz/target.h"
#include "support/support.h"

namespace shoehorn::fuzz {
namespace {
namespace fs = std::filesystem;

class EveryTarget : public testing::TestWithParam<size_t> {
 protected:
  const Target& target() const { return targets()[GetParam()]; }
};

TEST_P(EveryTarget, TakesItsSeeds) {
  const auto all = seeds(target().name);
  ASSERT_FALSE(all.empty());
  size_t taken = 0;
  for (const Seed& seed : all) {
    const std::string message = run(target(), seed.bytes);
    // What others made may be what we do not know; what is made here is good unless its name says otherwise.
    const bool ours = seed.name.find('-') == std::string::npos;
    if (ours) {
      EXPECT_EQ(message, "") << seed.name;
    }
    taken += message.empty() ? 1 : 0;
  }
  EXPECT_GT(taken, 0u);
}

/// A seed with bytes changed, cut out, put in twice, or numbers made large.
std::string damaged(std::string bytes, std::mt19937& random) {
  for (size_t n = 1 + random() % 4; n > 0 && !bytes.empty(); --n) {
    const size_t at = random() % bytes.size(), count = 1 + random() % std::min<size_t>(16, bytes.size() - at);
    switch (random() % 5) {
      case 0:
        bytes[at] = static_cast<char>(random());
        break;
      case 1:
        bytes.erase(at, count);
        break;
      case 2:
        bytes.insert(at, bytes.substr(at, count));
        break;
      case 3:
        std::fill_n(bytes.begin() + static_cast<std::ptrdiff_t>(at), count, random() % 2 == 0 ? '\xff' : '\0');
        break;
      default:
        bytes.resize(at);
    }
  }
  return bytes;
}

TEST_P(EveryTarget, DamagedSeedsDoNoHarm) {
  std::mt19937 random(1);
  const auto all = seeds(target().name);
  for (int i = 0; i < 400; ++i) run(target(), damaged(all[random() % all.size()].bytes, random));
  run(target(), "");
}

/// tests/golden-errors/TARGET/NAME is an input that was a finding, NAME.message with what it is refused; none: it is taken.
TEST(GoldenErrors, FindingsStayMended) {
  size_t n = 0;
  for (const auto& entry : fs::recursive_directory_iterator(fs::path(test::source_dir()) / "tests/golden-errors")) {
    if (!entry.is_regular_file() || entry.path().extension() == ".message") continue;
    const Target* target = find_target(entry.path().parent_path().filename().string());
    ASSERT_NE(target, nullptr) << entry.path();
    const std::string expected = entry.path().string() + ".message";
    std::string message = fs::exists(expected) ? test::read_text(expected) : "";
    if (message.ends_with('\n')) message.pop_back();
    EXPECT_EQ(run(*target, test::read_text(entry.path().string())), message) << entry.path();
    ++n;
  }
  EXPECT_GT(n, 0u);
}

INSTANTIATE_TEST_SUITE_P(Fuzz, EveryTarget, testing::Range<size_t>(0, targets().size()),
                         [](const auto& parameter) { return std::string(targets()[parameter.param].name); });

}  // namespace
}  // namespace shoehorn::fuzz
