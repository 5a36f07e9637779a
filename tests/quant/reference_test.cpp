// Against the files that llama.cpp wrote from the same model.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <map>
#include <string>

#include "io/gguf.h"
#include "quant/format.h"
#include "quant/mix.h"
#include "support/support.h"

namespace shoehorn::quant {
namespace {

/// Mean activation squares per tensor from llama.cpp's legacy importance file: int32 count, then per tensor int32 name
/// length, name, int32 calls, int32 n, float[n].
std::map<std::string, std::vector<float>> read_imatrix(const std::string& path) {
  const std::string bytes = test::read_text(path);
  size_t at = 0;
  const auto i32 = [&] {
    int32_t v = 0;
    std::memcpy(&v, bytes.data() + at, 4);
    at += 4;
    return v;
  };
  std::map<std::string, std::vector<float>> all;
  for (int32_t left = i32(); left > 0; --left) {
    const auto name_bytes = static_cast<size_t>(i32());
    const std::string name = bytes.substr(at, name_bytes);
    at += name_bytes;
    i32();
    std::vector<float> values(static_cast<size_t>(i32()));
    std::memcpy(values.data(), bytes.data() + at, 4 * values.size());
    at += 4 * values.size();
    all[name] = values;
  }
  return all;
}

struct Case {
  const char* file;
  const char* mix;
  bool imatrix;
};

constexpr Case kCases[] = {{"Q8_0", "Q8_0", false},
                           {"Q6_K", "Q6_K", false},
                           {"Q5_K_M", "Q5_K_M", false},
                           {"Q4_K_M", "Q4_K_M", false},
                           {"Q4_0", "Q4_0", false},
                           {"Q3_K_M", "Q3_K_M", false},
                           {"Q2_K", "Q2_K", false},
                           {"TQ2_0", "TQ2_0", false},
                           {"IQ2_XXS-imatrix", "IQ2_XXS", true},
                           {"IQ2_M-imatrix", "IQ2_M", true},
                           {"IQ3_XXS-imatrix", "IQ3_XXS", true},
                           {"IQ3_S-imatrix", "IQ3_S", true},
                           {"IQ3_M-imatrix", "IQ3_M", true},
                           {"IQ4_XS-imatrix", "IQ4_XS", true},
                           {"Q2_K-imatrix", "Q2_K", true},
                           {"Q3_K_M-imatrix", "Q3_K_M", true},
                           {"Q4_K_M-imatrix", "Q4_K_M", true}};

class ReferenceFile : public testing::TestWithParam<Case> {};
INSTANTIATE_TEST_SUITE_P(Files, ReferenceFile, testing::ValuesIn(kCases), [](const auto& row) {
  std::string name = row.param.file;
  for (char& c : name) c = c == '-' ? '_' : c;
  return name;
});

TEST_P(ReferenceFile, HasTheTypesThatWeChoose) {
  SHOEHORN_SHARED(f16_path, "reference/fable-10m-F16.gguf");
  SHOEHORN_SHARED(path, "reference/fable-10m-" + std::string(GetParam().file) + ".gguf");
  ASSERT_EXPECTED(const auto source, io::GgufFile::open(f16_path));
  ASSERT_EXPECTED(const auto reference, io::GgufFile::open(path));
  std::vector<MixTensor> tensors;
  for (const auto& t : source.tensors()) tensors.push_back({t.name, t.shape, t.type});
  const Mix* mix = find_mix(GetParam().mix);
  ASSERT_NE(mix, nullptr);
  EXPECT_EQ(reference.metadata().get_uint("general.file_type"), mix->file_type);
  const auto types =
      choose_types(*mix, {.n_layer = 8, .n_head = 8, .n_head_kv = 2, .has_imatrix = GetParam().imatrix}, tensors);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const io::GgufTensor* t = reference.find(tensors[i].name);
    ASSERT_NE(t, nullptr) << tensors[i].name;
    EXPECT_STREQ(format(types[i]).name, format(t->type).name) << tensors[i].name;
  }
}

TEST_P(ReferenceFile, IsNotMoreExactThanOurEncoding) {
  SHOEHORN_SHARED(f16_path, "reference/fable-10m-F16.gguf");
  SHOEHORN_SHARED(path, "reference/fable-10m-" + std::string(GetParam().file) + ".gguf");
  SHOEHORN_SHARED(imatrix_path, "reference/fable-10m.imatrix.dat");
  ASSERT_EXPECTED(const auto source, io::GgufFile::open(f16_path));
  ASSERT_EXPECTED(const auto reference, io::GgufFile::open(path));
  const auto imatrix = read_imatrix(imatrix_path);
  constexpr uint64_t kEveryNthRow = 5;

  struct Errors {
    double ours = 0, theirs = 0;
  };
  std::map<Type, Errors> by_type;
  for (const io::GgufTensor& t : reference.tensors()) {
    const Format& f = format(t.type);
    if (!f.quantized) continue;
    const io::GgufTensor* original = source.find(t.name);
    ASSERT_NE(original, nullptr) << t.name;
    const Format& from = format(original->type);
    const size_t n = t.n_cols();
    const auto found = imatrix.find(t.name);
    const float* importance = GetParam().imatrix && found != imatrix.end() ? found->second.data() : nullptr;
    std::vector<float> x(n), ours(n), theirs(n);
    std::vector<std::byte> encoded(row_bytes(f, n));
    double ours_sum = 0, theirs_sum = 0, signal = 0;
    for (uint64_t row = 0; row < t.n_rows(); row += kEveryNthRow) {
      from.decode(original->data.data() + row * row_bytes(from, n), x.data(), n);
      f.decode(t.data.data() + row * row_bytes(f, n), theirs.data(), n);
      f.encode(x.data(), importance, encoded.data(), n);
      f.decode(encoded.data(), ours.data(), n);
      for (size_t i = 0; i < n; ++i) {
        const double weight = importance == nullptr ? 1.0 : static_cast<double>(importance[i]);
        const double e = static_cast<double>(ours[i]) - static_cast<double>(x[i]);
        const double e_theirs = static_cast<double>(theirs[i]) - static_cast<double>(x[i]);
        ours_sum += weight * e * e;
        theirs_sum += weight * e_theirs * e_theirs;
        signal += weight * static_cast<double>(x[i]) * static_cast<double>(x[i]);
      }
      if (t.type == Type::TQ2_0) {
        ASSERT_EQ(std::memcmp(encoded.data(), t.data.data() + row * row_bytes(f, n), encoded.size()), 0)
            << t.name << " row " << row << ": ternary encoding leaves no choice";
      }
    }
    // Relative to what the tensor puts out, so that each counts alike.
    by_type[t.type].ours += ours_sum / signal;
    by_type[t.type].theirs += theirs_sum / signal;
  }
  ASSERT_FALSE(by_type.empty());
  for (const auto& [type, e] : by_type) {
    EXPECT_LE(std::sqrt(e.ours), 1.005 * std::sqrt(e.theirs))
        << format(type).name << ": ratio " << std::sqrt(e.ours / e.theirs);
  }
}

}  // namespace
}  // namespace shoehorn::quant
