// Checkpoints that other programs quantized: small ones, packed here from the formats' definitions, against what their numbers mean.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "base/float16.h"
#include "convert/gguf_output.h"
#include "convert/opened_checkpoint.h"
#include "io/gguf.h"
#include "io/safetensors.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::convert {
namespace {

using io::DType;
using Codes = std::vector<std::vector<uint32_t>>;  // [n_rows][n]
using Values = std::vector<std::vector<float>>;

/// One tensor of a checkpoint's file.
struct Raw {
  DType dtype;
  std::vector<uint64_t> shape;
  std::vector<std::byte> bytes;
};

template <class T>
Raw raw(DType dtype, std::vector<uint64_t> shape, const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {dtype, std::move(shape), {bytes.begin(), bytes.end()}};
}

Raw halves(std::vector<uint64_t> shape, const std::vector<float>& values) {
  std::vector<uint16_t> out;
  for (const float v : values) out.push_back(fp32_to_fp16(v));
  return raw(DType::F16, std::move(shape), out);
}

/// A value that an F16 has as it is.
float half(float v) { return fp16_to_fp32(fp32_to_fp16(v)); }

/// Puts bit k of code i to bit i * bits + k of a stream of 32-bit words.
std::vector<uint32_t> stream_of(const std::vector<uint32_t>& codes, uint32_t bits) {
  std::vector<uint32_t> words((codes.size() * bits + 31) / 32);
  for (size_t i = 0; i < codes.size(); ++i) {
    for (uint32_t k = 0; k < bits; ++k) {
      const size_t at = i * bits + k;
      words[at / 32] |= (codes[i] >> k & 1) << (at % 32);
    }
  }
  return words;
}

Codes transposed(const Codes& m) {
  Codes out(m[0].size(), std::vector<uint32_t>(m.size()));
  for (size_t r = 0; r < m.size(); ++r) {
    for (size_t c = 0; c < m[r].size(); ++c) out[c][r] = m[r][c];
  }
  return out;
}

template <class T>
std::vector<T> flat(const std::vector<std::vector<T>>& m) {
  std::vector<T> out;
  for (const auto& row : m) out.insert(out.end(), row.begin(), row.end());
  return out;
}

/// A matrix as a method stores it, and what it stands for.
struct Packed {
  std::map<std::string, Raw> tensors;  // by what comes behind the module's name
  Values means;
};

/// Codes, zeros and scales at random. Rows are outputs, columns inputs.
struct Random {
  std::mt19937 engine{7};
  uint32_t below(uint32_t n) { return std::uniform_int_distribution<uint32_t>(0, n - 1)(engine); }
  Codes codes(uint64_t n_rows, uint64_t n, uint32_t limit) {
    Codes out(n_rows, std::vector<uint32_t>(n));
    for (auto& row : out) {
      for (auto& code : row) code = below(limit);
    }
    return out;
  }
  Values scales(uint64_t n_rows, uint64_t n) {
    Values out(n_rows, std::vector<float>(n));
    for (auto& row : out) {
      for (auto& s : row) s = half(0.001f * static_cast<float>(1 + below(100)));
    }
    return out;
  }
};

struct Gptq {
  uint32_t bits = 4;
  uint64_t group = 32;
  bool symmetric = true, second_version = false, act_order = false;
};

Packed gptq(Random& random, uint64_t n_rows, uint64_t n_cols, const Gptq& o) {
  const uint64_t n_groups = (n_cols + o.group - 1) / o.group;
  const uint32_t middle = 1u << (o.bits - 1);
  const Codes q = random.codes(n_rows, n_cols, 1u << o.bits);
  Codes zero(n_rows, std::vector<uint32_t>(n_groups, middle));
  if (!o.symmetric) {
    for (auto& row : zero) {
      for (auto& z : row) z = 1 + random.below((1u << o.bits) - 1);
    }
  }
  const Values scale = random.scales(n_rows, n_groups);
  std::vector<int32_t> group_of(n_cols);
  for (uint64_t c = 0; c < n_cols; ++c) group_of[c] = static_cast<int32_t>(c / o.group);
  if (o.act_order) std::shuffle(group_of.begin(), group_of.end(), random.engine);

  Packed out;
  out.means.assign(n_rows, std::vector<float>(n_cols));
  for (uint64_t r = 0; r < n_rows; ++r) {
    for (uint64_t c = 0; c < n_cols; ++c) {
      const auto g = static_cast<uint64_t>(group_of[c]);
      out.means[r][c] = scale[r][g] * (static_cast<float>(q[r][c]) - static_cast<float>(zero[r][g]));
    }
  }
  // A stream down each column of the stored matrix, which is an output's inputs.
  Codes down;
  for (const auto& row : q) down.push_back(stream_of(row, o.bits));
  out.tensors[".qweight"] = raw(DType::I32, {down[0].size(), n_rows}, flat(transposed(down)));
  Codes zeros = transposed(zero), along;
  for (auto& row : zeros) {
    for (auto& z : row) z -= o.second_version ? 0 : 1;
    along.push_back(stream_of(row, o.bits));
  }
  out.tensors[".qzeros"] = raw(DType::I32, {n_groups, along[0].size()}, flat(along));
  std::vector<float> scales_down;
  for (uint64_t g = 0; g < n_groups; ++g) {
    for (uint64_t r = 0; r < n_rows; ++r) scales_down.push_back(scale[r][g]);
  }
  out.tensors[".scales"] = halves({n_groups, n_rows}, scales_down);
  out.tensors[".g_idx"] = raw(DType::I32, {n_cols}, group_of);
  return out;
}

TEST(PackedFixtures, GoldenWords) {
  // What the formats' own programs give for codes 0 ... 7.
  EXPECT_EQ(stream_of({0, 1, 2, 3, 4, 5, 6, 7}, 4), std::vector<uint32_t>{0x76543210});
  EXPECT_EQ(stream_of(std::vector<uint32_t>(8, 8 - 1), 4), std::vector<uint32_t>{0x77777777});
  EXPECT_EQ(stream_of(std::vector<uint32_t>(8, 8), 4), std::vector<uint32_t>{0x88888888});
  // 3 bits: the eleventh code is two bits of one word and one of the next.
  std::vector<uint32_t> codes(32);
  codes[10] = 7;
  EXPECT_EQ(stream_of(codes, 3), (std::vector<uint32_t>{0xc0000000, 1, 0}));
}

/// The matrices of a model's projections packed by `pack`, everything else plain, with this quantization_config.
struct Fixture {
  std::string directory;
  std::map<std::string, Values> means;  // by name
};

Fixture fixture(const Json& quantization, const std::function<Packed(uint64_t n_rows, uint64_t n_cols)>& pack, const char* key = "quantization_config",
                const std::function<void(std::map<std::string, Raw>&)>& damage = {}) {
  Json config = test::tiny_config();
  config["num_hidden_layers"] = 1;
  config[key] = quantization;
  config["hidden_size"] = 64;
  Json plain = config;
  plain.erase(key);
  const auto checkpoint = test::make_tiny_checkpoint(plain);
  Fixture out;
  std::map<std::string, Raw> tensors;
  for (const auto& [name, values] : checkpoint.weights) {
    const bool matrix = name.ends_with("_proj.weight");
    const uint64_t n_cols = name.find("down_proj") != std::string::npos ? 96 : 64;
    if (!matrix) {
      const bool embedding = values.size() > 64;
      tensors[name] = raw(DType::F32, embedding ? std::vector<uint64_t>{values.size() / 64, 64} : std::vector<uint64_t>{64}, values);
      continue;
    }
    const std::string module = name.substr(0, name.size() - 7);
    const Packed packed = pack(values.size() / n_cols, n_cols);
    for (const auto& [suffix, tensor] : packed.tensors) tensors[module + suffix] = tensor;
    out.means[name] = packed.means;
  }
  if (damage) damage(tensors);
  out.directory = test::temp_dir();
  test::write_text(out.directory + "/config.json", config.dump());
  for (const char* file : {"tokenizer.json", "tokenizer_config.json"})
    test::write_text(out.directory + "/" + file, test::read_text(checkpoint.directory + "/" + file));
  io::SafetensorsWriter writer;
  for (const auto& [name, tensor] : tensors) EXPECT_TRUE(writer.add_tensor(name, tensor.dtype, tensor.shape).has_value());
  EXPECT_TRUE(writer.begin(out.directory).has_value());
  for (const auto& [name, tensor] : tensors) EXPECT_TRUE(writer.append(tensor.bytes).has_value()) << name;
  EXPECT_TRUE(writer.commit().has_value());
  return out;
}

/// Every matrix is what it stands for, read whole, by rows and by elements.
void expect_means(const Fixture& f, double tolerance = 0) {
  NoProgress progress;
  const auto opened = open_checkpoint(f.directory, progress);
  ASSERT_TRUE(opened.has_value()) << opened.error().message;
  size_t n = 0;
  for (const auto& [spec, tensor] : opened->tensors) {
    const auto expected = f.means.find(spec.hf_name);
    if (expected == f.means.end()) continue;
    ++n;
    ASSERT_NE(tensor.packed, nullptr);
    const std::vector<float> all = flat(expected->second);
    std::vector<float> values(all.size());
    io::read_floats(tensor, 0, values.size(), values.data());
    for (size_t i = 0; i < all.size(); ++i) ASSERT_NEAR(values[i], all[i], tolerance * static_cast<double>(std::abs(all[i]))) << spec.hf_name << " " << i;
    std::vector<float> some(5);
    io::read_floats(tensor, 131, some.size(), some.data());
    EXPECT_TRUE(std::equal(some.begin(), some.end(), values.begin() + 131));
  }
  EXPECT_EQ(n, 7u);
}

/// Written as a GGUF of this mix, the matrices decode to what they stand for.
void expect_exact_in(const Fixture& f, const char* mix) {
  NoProgress progress;
  auto source = ModelSource::open(f.directory, progress);
  ASSERT_TRUE(source.has_value()) << source.error().message;
  const std::string path = test::temp_dir() + "/model.gguf";
  const auto report = write_gguf(*source, path, {.mix = quant::find_mix(mix)}, progress);
  ASSERT_TRUE(report.has_value()) << report.error().message;
  const auto file = io::GgufFile::open(path);
  ASSERT_TRUE(file.has_value());
  // q and k lie in NORM rope's order: what does not is enough.
  for (const auto& [gguf, hf] : {std::pair("blk.0.attn_v.weight", "model.layers.0.self_attn.v_proj.weight"), {"blk.0.ffn_down.weight", "model.layers.0.mlp.down_proj.weight"},
                                 {"blk.0.ffn_up.weight", "model.layers.0.mlp.up_proj.weight"}}) {
    const io::GgufTensor& tensor = *file->find(gguf);
    std::vector<float> values(tensor.n_elements());
    quant::format(tensor.type).decode(tensor.data.data(), values.data(), values.size());
    EXPECT_EQ(values, flat(f.means.at(hf))) << gguf << " as " << quant::format(tensor.type).name;
  }
  // And q's rows, one by one: of NORM's (2i, 2i + 1) the partners (i, i + 8) of a head of 16.
  const io::GgufTensor& q = *file->find("blk.0.attn_q.weight");
  const Values& means = f.means.at("model.layers.0.self_attn.q_proj.weight");
  const uint64_t row_bytes = q.data.size() / q.n_rows();
  std::vector<float> row(q.n_cols());
  quant::format(q.type).decode(q.data.data() + 17 * row_bytes, row.data(), row.size());
  EXPECT_EQ(row, means[24]);
}

Json gptq_config(const Gptq& o) {
  return {{"quant_method", "gptq"}, {"bits", o.bits}, {"group_size", o.group}, {"desc_act", o.act_order}, {"sym", o.symmetric},
          {"checkpoint_format", o.second_version ? "gptq_v2" : "gptq"}};
}

TEST(Packed, GptqOfEveryWidthOrderAndVersion) {
  Random random;
  for (const uint32_t bits : {2u, 3u, 4u, 8u}) {
    for (const Gptq& o : {Gptq{bits}, Gptq{bits, 64, false}, Gptq{bits, 32, false, true}, Gptq{bits, 32, true, true}, Gptq{bits, 32, true, false, true}, Gptq{bits, 32, false, true, true}}) {
      SCOPED_TRACE(gptq_config(o).dump());
      expect_means(fixture(gptq_config(o), [&](uint64_t n_rows, uint64_t n_cols) { return gptq(random, n_rows, n_cols, o); }));
    }
  }
}

TEST(Packed, SymmetricGptqInOrderIsQ4_0) {
  Random random;
  for (const uint64_t group : {32u, 64u}) {
    const Gptq o{4, group};
    const Fixture f = fixture(gptq_config(o), [&](uint64_t n_rows, uint64_t n_cols) { return gptq(random, n_rows, n_cols, o); });
    expect_exact_in(f, "Q4_0");
    NoProgress progress;
    const auto opened = open_checkpoint(f.directory, progress);
    for (const auto& [spec, tensor] : opened->tensors) {
      if (tensor.packed == nullptr) continue;
      EXPECT_EQ(tensor.packed->same_as(), quant::Type::Q4_0);
    }
  }
  for (const Gptq& o : {Gptq{4, 32, false}, Gptq{4, 32, true, false, true}, Gptq{8}}) {
    NoProgress progress;
    const Fixture f = fixture(gptq_config(o), [&](uint64_t n_rows, uint64_t n_cols) { return gptq(random, n_rows, n_cols, o); });
    const auto opened = open_checkpoint(f.directory, progress);
    for (const auto& [spec, tensor] : opened->tensors) {
      if (tensor.packed == nullptr) continue;
      EXPECT_FALSE(tensor.packed->same_as().has_value()) << gptq_config(o);
    }
  }
}

TEST(Packed, SymmetricGptqSaysItsVersionByItsZeros) {
  Random random;
  const Gptq second{4, 32, true, true};
  Json config = gptq_config(second);
  config["checkpoint_format"] = "gptq";  // which it is not
  const Fixture f = fixture(config, [&](uint64_t n_rows, uint64_t n_cols) { return gptq(random, n_rows, n_cols, second); });
  expect_means(f);
  expect_exact_in(f, "Q4_0");
}

TEST(Packed, GptqBeforeItWasInTheConfiguration) {
  Random random;
  const Fixture f = fixture(nullptr, [&](uint64_t n_rows, uint64_t n_cols) { return gptq(random, n_rows, n_cols, {}); });
  NoProgress progress;
  const auto refused = open_checkpoint(f.directory, progress);
  ASSERT_FALSE(refused.has_value());
  EXPECT_NE(refused.error().message.find("quantization_config"), std::string::npos) << refused.error().message;
  test::write_text(f.directory + "/quantize_config.json", R"({"bits": 4, "group_size": 32, "desc_act": false, "sym": true})");
  expect_means(f);
}

TEST(Packed, AwqsGemmLayout) {
  Random random;
  constexpr uint32_t kOrder[8] = {0, 2, 4, 6, 1, 3, 5, 7};
  const auto words_of = [&](const std::vector<uint32_t>& line) {
    std::vector<uint32_t> words(line.size() / 8);
    for (size_t i = 0; i < line.size(); ++i) words[i / 8] |= line[i / 8 * 8 + kOrder[i % 8]] << (4 * (i % 8));
    return words;
  };
  EXPECT_EQ(words_of({0, 1, 2, 3, 4, 5, 6, 7}), std::vector<uint32_t>{0x75316420});
  for (const bool symmetric : {false, true}) {
    const Fixture f = fixture({{"quant_method", "awq"}, {"bits", 4}, {"group_size", 32}, {"zero_point", true}, {"version", "gemm"}}, [&](uint64_t n_rows, uint64_t n_cols) {
      const uint64_t n_groups = n_cols / 32;
      const Codes q = random.codes(n_rows, n_cols, 16), zero = symmetric ? Codes(n_rows, std::vector<uint32_t>(n_groups, 8)) : random.codes(n_rows, n_groups, 16);
      const Values scale = random.scales(n_rows, n_groups);
      Packed out;
      out.means.assign(n_rows, std::vector<float>(n_cols));
      std::vector<float> scales(n_groups * n_rows);
      for (uint64_t r = 0; r < n_rows; ++r) {
        for (uint64_t c = 0; c < n_cols; ++c) out.means[r][c] = (static_cast<float>(q[r][c]) - static_cast<float>(zero[r][c / 32])) * scale[r][c / 32];
        for (uint64_t g = 0; g < n_groups; ++g) scales[g * n_rows + r] = scale[r][g];
      }
      Codes weight, zeros;
      for (const auto& line : transposed(q)) weight.push_back(words_of(line));
      for (const auto& line : transposed(zero)) zeros.push_back(words_of(line));
      out.tensors[".qweight"] = raw(DType::I32, {n_cols, n_rows / 8}, flat(weight));
      out.tensors[".qzeros"] = raw(DType::I32, {n_groups, n_rows / 8}, flat(zeros));
      out.tensors[".scales"] = halves({n_groups, n_rows}, scales);
      return out;
    });
    expect_means(f);
    if (symmetric) expect_exact_in(f, "Q4_0");
  }
}

Packed nf4(Random& random, uint64_t n_rows, uint64_t n_cols, bool nested, const char* kind) {
  constexpr uint64_t kBlock = 64, kNestedBlock = 4;
  const uint64_t n = n_rows * n_cols, n_blocks = n / kBlock;
  std::vector<float> map, nested_map, nested_absmax, absmax;
  for (int i = 0; i < 16; ++i) map.push_back(static_cast<float>(i - 7) / 8);
  for (int i = 0; i < 256; ++i) nested_map.push_back(static_cast<float>(i - 100) / 256);
  std::vector<uint8_t> absmax_codes(n_blocks);
  for (auto& code : absmax_codes) code = static_cast<uint8_t>(random.below(256));
  for (uint64_t i = 0; i < (n_blocks + kNestedBlock - 1) / kNestedBlock; ++i) nested_absmax.push_back(0.01f * static_cast<float>(1 + random.below(50)));
  const float offset = 0.375f;
  for (uint64_t b = 0; b < n_blocks; ++b) {
    absmax.push_back(nested ? nested_map[absmax_codes[b]] * nested_absmax[b / kNestedBlock] + offset : 0.01f * static_cast<float>(1 + random.below(99)));
  }
  const Codes q = random.codes(n_rows, n_cols, 16);
  const auto codes = flat(q);
  std::vector<uint8_t> bytes(n / 2);
  for (uint64_t i = 0; i < n; i += 2) bytes[i / 2] = static_cast<uint8_t>(codes[i] << 4 | codes[i + 1]);  // high nibble first
  Packed out;
  out.means.assign(n_rows, std::vector<float>(n_cols));
  for (uint64_t i = 0; i < n; ++i) out.means[i / n_cols][i % n_cols] = map[codes[i]] * absmax[i / kBlock];
  out.tensors[".weight"] = raw(DType::U8, {n / 2, 1}, bytes);
  out.tensors[".weight.quant_map"] = raw(DType::F32, {16}, map);
  Json state = {{"quant_type", kind}, {"blocksize", kBlock}, {"dtype", "bfloat16"}, {"shape", {n_rows, n_cols}}};
  if (nested) {
    out.tensors[".weight.absmax"] = raw(DType::U8, {n_blocks}, absmax_codes);
    out.tensors[".weight.nested_absmax"] = raw(DType::F32, {nested_absmax.size()}, nested_absmax);
    out.tensors[".weight.nested_quant_map"] = raw(DType::F32, {256}, nested_map);
    state["nested_blocksize"] = kNestedBlock;
    state["nested_offset"] = offset;
  } else {
    out.tensors[".weight.absmax"] = raw(DType::F32, {n_blocks}, absmax);
  }
  const std::string text = state.dump();
  out.tensors[std::string(".weight.quant_state.bitsandbytes__") + kind] = raw(DType::U8, {text.size()}, std::vector<char>(text.begin(), text.end()));
  return out;
}

TEST(Packed, BitsandbytesInFourBitsAndNested) {
  Random random;
  for (const char* kind : {"nf4", "fp4"}) {
    for (const bool nested : {false, true}) {
      SCOPED_TRACE(kind);
      // Sums of two products may be fused.
      expect_means(fixture({{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}, {"bnb_4bit_quant_type", kind}},
                           [&](uint64_t n_rows, uint64_t n_cols) { return nf4(random, n_rows, n_cols, nested, kind); }),
                   1e-6);
    }
  }
}

TEST(Packed, BitsandbytesInEightBits) {
  Random random;
  expect_means(fixture({{"quant_method", "bitsandbytes"}, {"load_in_8bit", true}}, [&](uint64_t n_rows, uint64_t n_cols) {
    const Codes q = random.codes(n_rows, n_cols, 255);
    const Values scale = random.scales(n_rows, 1);
    Packed out;
    out.means.assign(n_rows, std::vector<float>(n_cols));
    std::vector<int8_t> codes;
    for (uint64_t r = 0; r < n_rows; ++r) {
      for (uint64_t c = 0; c < n_cols; ++c) {
        codes.push_back(static_cast<int8_t>(static_cast<int>(q[r][c]) - 127));
        out.means[r][c] = static_cast<float>(codes.back()) * (scale[r][0] / 127);
      }
    }
    out.tensors[".weight"] = raw(DType::I8, {n_rows, n_cols}, codes);
    out.tensors[".SCB"] = raw(DType::F32, {n_rows}, flat(scale));
    out.tensors[".weight_format"] = raw(DType::U8, {1}, std::vector<uint8_t>{0});
    return out;
  }));
}

TEST(Packed, CompressedTensors) {
  Random random;
  for (const bool symmetric : {true, false}) {
    for (const uint32_t bits : {4u, 8u}) {
      const Json config = {{"quant_method", "compressed-tensors"}, {"format", "pack-quantized"},
                           {"config_groups", {{"group_0", {{"targets", {"Linear"}}, {"weights", {{"num_bits", bits}, {"group_size", 32}, {"symmetric", symmetric}, {"type", "int"}}}}}}}};
      const Fixture f = fixture(config, [&](uint64_t n_rows, uint64_t n_cols) {
        const uint64_t n_groups = n_cols / 32, per_word = 32 / bits;
        const int middle = 1 << (bits - 1);
        // Signed numbers, stored plus the middle.
        const Codes q = random.codes(n_rows, n_cols, 1u << bits);
        const Codes zero = symmetric ? Codes(n_rows, std::vector<uint32_t>(n_groups, static_cast<uint32_t>(middle))) : random.codes(n_rows, n_groups, 1u << bits);
        const Values scale = random.scales(n_rows, n_groups);
        Packed out;
        out.means.assign(n_rows, std::vector<float>(n_cols));
        Codes words;
        for (uint64_t r = 0; r < n_rows; ++r) {
          words.push_back(stream_of(q[r], bits));
          for (uint64_t c = 0; c < n_cols; ++c) {
            const int code = static_cast<int>(q[r][c]) - middle, z = static_cast<int>(zero[r][c / 32]) - middle;
            out.means[r][c] = static_cast<float>(code - z) * scale[r][c / 32];
          }
        }
        out.tensors[".weight_packed"] = raw(DType::I32, {n_rows, n_cols / per_word}, flat(words));
        out.tensors[".weight_scale"] = halves({n_rows, n_groups}, flat(scale));
        out.tensors[".weight_shape"] = raw(DType::I64, {2}, std::vector<int64_t>{static_cast<int64_t>(n_rows), static_cast<int64_t>(n_cols)});
        if (!symmetric) {
          Codes down;
          for (const auto& line : transposed(zero)) down.push_back(stream_of(line, bits));
          out.tensors[".weight_zero_point"] = raw(DType::I32, {n_rows / per_word, n_groups}, flat(transposed(down)));
        }
        return out;
      });
      expect_means(f);
      if (symmetric && bits == 4) expect_exact_in(f, "Q4_0");
    }
  }
}

TEST(Packed, CompressedTensorsOfEightBitsThatAreNotPacked) {
  Random random;
  for (const bool floats : {false, true}) {
    const Json config = {{"quant_method", "compressed-tensors"}, {"format", floats ? "float-quantized" : "int-quantized"}};
    expect_means(fixture(config, [&](uint64_t n_rows, uint64_t n_cols) {
      const Values scale = random.scales(n_rows, 1);
      Packed out;
      out.means.assign(n_rows, std::vector<float>(n_cols));
      std::vector<uint8_t> bytes;
      for (uint64_t r = 0; r < n_rows; ++r) {
        for (uint64_t c = 0; c < n_cols; ++c) {
          const auto byte = static_cast<uint8_t>(random.below(floats ? 0x70 : 256));
          bytes.push_back(byte);
          // E4M3: 3 bits of mantissa, a bias of 7.
          const int exponent = byte >> 3 & 15, mantissa = byte & 7;
          const float value = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -9) : std::ldexp(static_cast<float>(8 + mantissa), exponent - 10);
          out.means[r][c] = (floats ? value : static_cast<float>(static_cast<int8_t>(byte))) * scale[r][0];
        }
      }
      out.tensors[".weight"] = raw(floats ? DType::F8_E4M3 : DType::I8, {n_rows, n_cols}, bytes);
      out.tensors[".weight_scale"] = halves({n_rows, 1}, flat(scale));
      return out;
    }));
  }
}

TEST(Packed, Mlx) {
  Random random;
  for (const uint32_t bits : {2u, 4u, 8u}) {
    expect_means(fixture({{"group_size", 32}, {"bits", bits}}, [&](uint64_t n_rows, uint64_t n_cols) {
      const uint64_t n_groups = n_cols / 32;
      const Codes q = random.codes(n_rows, n_cols, 1u << bits);
      const Values scale = random.scales(n_rows, n_groups), bias = random.scales(n_rows, n_groups);
      Packed out;
      out.means.assign(n_rows, std::vector<float>(n_cols));
      Codes words;
      for (uint64_t r = 0; r < n_rows; ++r) {
        words.push_back(stream_of(q[r], bits));
        for (uint64_t c = 0; c < n_cols; ++c) out.means[r][c] = scale[r][c / 32] * static_cast<float>(q[r][c]) + bias[r][c / 32];
      }
      out.tensors[".weight"] = raw(DType::U32, {n_rows, n_cols * bits / 32}, flat(words));
      out.tensors[".scales"] = halves({n_rows, n_groups}, flat(scale));
      out.tensors[".biases"] = halves({n_rows, n_groups}, flat(bias));
      return out;
    }, "quantization"), 1e-6);
  }
}

TEST(Packed, BitnetsTwoLinearClasses) {
  Random random;
  for (const char* linear_class : {"bitlinear", "autobitlinear"}) {
    const bool divides = linear_class == std::string("bitlinear");
    const Fixture f = fixture({{"quant_method", "bitnet"}, {"linear_class", linear_class}}, [&](uint64_t n_rows, uint64_t n_cols) {
      const Codes q = random.codes(n_rows, n_cols, 3);
      const float scale = half(0.25f + 0.125f * static_cast<float>(random.below(8)));
      Packed out;
      out.means.assign(n_rows, std::vector<float>(n_cols));
      std::vector<uint8_t> bytes(n_rows / 4 * n_cols);
      for (uint64_t r = 0; r < n_rows; ++r) {
        for (uint64_t c = 0; c < n_cols; ++c) {
          // transformers' pack_weights: rows a quarter of the matrix apart share a byte.
          bytes[r % (n_rows / 4) * n_cols + c] |= static_cast<uint8_t>(q[r][c] << (2 * (r / (n_rows / 4))));
          const float trit = static_cast<float>(q[r][c]) - 1;
          out.means[r][c] = divides ? trit * (1 / scale) : trit * scale;
        }
      }
      out.tensors[".weight"] = raw(DType::U8, {n_rows / 4, n_cols}, bytes);
      out.tensors[".weight_scale"] = raw(DType::F32, {1}, std::vector<float>{scale});
      return out;
    });
    expect_means(f);
  }
}

TEST(Packed, BitnetsTrainedWeightsAreRoundedAsWhenTheyAreUsed) {
  Random random;
  for (const auto& [key, value] : {std::pair<const char*, Json>{"quantization_config", {{"quant_method", "bitnet"}, {"quantization_mode", "online"}}}, {"weight_bits", 1}}) {
    const Fixture f = fixture(value, [&](uint64_t n_rows, uint64_t n_cols) {
      std::normal_distribution<float> normal(0, 0.02f);
      std::vector<float> weights(n_rows * n_cols);
      double size = 0;
      for (float& w : weights) size += static_cast<double>(std::abs(w = normal(random.engine)));
      const auto mean = static_cast<float>(size / static_cast<double>(weights.size()));
      Packed out;
      out.means.assign(n_rows, std::vector<float>(n_cols));
      for (uint64_t i = 0; i < weights.size(); ++i) {
        const float over = weights[i] * (1 / mean);
        out.means[i / n_cols][i % n_cols] = over > 0.5f ? mean : over < -0.5f ? -mean : 0;
      }
      out.tensors[".weight"] = raw(DType::F32, {n_rows, n_cols}, weights);
      return out;
    }, key);
    expect_means(f, 1e-6);
  }
}

TEST(Packed, WhatDoesNotFitIsRefusedByName) {
  Random random;
  const std::string module = "model.layers.0.mlp.up_proj";
  const auto refusal = [&](Json config, const std::function<void(std::map<std::string, Raw>&)>& damage) {
    const Fixture f = fixture(config, [&](uint64_t n_rows, uint64_t n_cols) { return gptq(random, n_rows, n_cols, {}); }, "quantization_config", damage);
    NoProgress progress;
    const auto opened = open_checkpoint(f.directory, progress);
    EXPECT_FALSE(opened.has_value());
    return opened ? "" : opened.error().message;
  };
  const auto expect_refused = [&](const std::string& message, const std::string& part) { EXPECT_NE(message.find(part), std::string::npos) << message; };
  Json config = gptq_config({});
  config["bits"] = 5;
  expect_refused(refusal(config, {}), "bits is 5; GPTQ has 2, 3, 4 and 8");
  config.erase("bits");
  expect_refused(refusal(config, {}), "bits is missing");
  expect_refused(refusal(gptq_config({}), [&](auto& tensors) { tensors.erase(module + ".qzeros"); }), module + ".qzeros is missing");
  expect_refused(refusal(gptq_config({}), [&](auto& tensors) { tensors[module + ".scales"] = halves({2, 8}, std::vector<float>(16)); }), module + ": qweight");
  expect_refused(refusal(gptq_config({}), [&](auto& tensors) { tensors[module + ".g_idx"] = raw(DType::I32, {3}, std::vector<int32_t>(3)); }), module + ".g_idx has 3 entries");
  expect_refused(refusal(gptq_config({}), [&](auto& tensors) { tensors[module + ".g_idx"] = raw(DType::I32, {64}, std::vector<int32_t>(64, 9)); }), "of group 9, there are 2");
  expect_refused(refusal(gptq_config({}), [&](auto& tensors) { tensors[module + ".qweight"] = halves({8, 96}, std::vector<float>(768)); }), "has dtype F16");
  expect_refused(refusal({{"quant_method", "awq"}, {"bits", 3}}, {}), "AWQ has 4");
  expect_refused(refusal({{"quant_method", "awq"}, {"bits", 4}, {"version", "GEMV"}}, {}), "gemm layout");
  expect_refused(refusal({{"quant_method", "hqq"}}, {}), "already quantized (hqq)");
}

}  // namespace
}  // namespace shoehorn::convert
