#include "io/pytorch_bin.h"

#include <fstream>

#include "io/checkpoint.h"
#include "torch_fixture.h"

namespace shoehorn::io {
namespace {

using test::ExactBytes;
using test::PickleWriter;
using test::raw;
using test::raw_array;
using test::torch_file;
using Storages = std::vector<std::pair<std::string, std::string>>;

/// Reads and touches all data.
Expected<TorchFile> read(const std::string& bytes) {
  const ExactBytes exact(bytes);
  auto file = read_pytorch_bin(exact.span(), "f");
  if (file) {
    for (const StoredTensor& tensor : file->tensors) {
      volatile int sum = 0;
      for (const std::byte b : tensor.data) sum = sum + std::to_integer<int>(b);
    }
  }
  return file;
}

Expected<Checkpoint> open(const std::string& bytes) {
  const std::string path = test::temp_dir() + "/pytorch_model.bin";
  test::write_text(path, bytes);
  return Checkpoint::open(path);
}

std::vector<float> floats(const CheckpointTensor& tensor) {
  std::vector<float> out(tensor.n_elements());
  read_floats(tensor, 0, out.size(), out.data());
  return out;
}

/// {"w": tensor} over a float storage 0..n-1.
std::string one_tensor(int64_t numel, int64_t offset, const std::vector<int64_t>& size,
                       const std::vector<int64_t>& stride, int64_t stored = -1) {
  PickleWriter p;
  p.op("}").text("w").tensor("FloatStorage", "0", numel, offset, size, stride).op("s");
  std::string bytes;
  for (int64_t i = 0; i < (stored < 0 ? numel : stored); ++i) bytes += raw(static_cast<float>(i));
  return torch_file(p.done(), {{"0", bytes}});
}

TEST(PytorchBin, ReadsAStateDict) {
  ASSERT_EXPECTED(const auto checkpoint, open(test::small_torch_file()));
  ASSERT_EQ(checkpoint.tensors().size(), 1u);
  const CheckpointTensor& tensor = checkpoint.tensors()[0];
  EXPECT_EQ(tensor.name, "model.norm.weight");
  EXPECT_EQ(tensor.shape, (std::vector<uint64_t>{2, 3}));
  EXPECT_EQ(floats(tensor), (std::vector<float>{0, 1, 2, 3, 4, 5}));
  EXPECT_NE(tensor.file, nullptr) << "contiguous tensors are not copied";
}

TEST(PytorchBin, ReadsZip64) {
  PickleWriter p;
  p.op("}").text("w").tensor("FloatStorage", "0", 2, 0, {2}, {1}).op("s");
  ASSERT_EXPECTED(const auto file, read(torch_file(p.done(), {{"0", raw_array<float>({7, 8})}}, true)));
  EXPECT_EQ(file.tensors.size(), 1u);
}

TEST(PytorchBin, EveryStorageTypeHasItsDType) {
  const std::pair<const char*, DType> types[] = {{"DoubleStorage", DType::F64}, {"FloatStorage", DType::F32},
                                                 {"HalfStorage", DType::F16},   {"BFloat16Storage", DType::BF16},
                                                 {"LongStorage", DType::I64},   {"IntStorage", DType::I32},
                                                 {"ShortStorage", DType::I16},  {"CharStorage", DType::I8},
                                                 {"ByteStorage", DType::U8},    {"BoolStorage", DType::BOOL}};
  for (const auto& [type, dtype] : types) {
    PickleWriter p;
    p.op("}").text("w").tensor(type, "0", 3, 1, {2}, {1}).op("s");
    ASSERT_EXPECTED(const auto file, read(torch_file(p.done(), {{"0", std::string(3 * dtype_info(dtype).bytes, 1)}})));
    EXPECT_EQ(file.tensors.at(0).dtype, dtype) << type;
    EXPECT_EQ(file.tensors.at(0).data.size(), 2 * dtype_info(dtype).bytes);
  }
}

TEST(PytorchBin, Fp8TensorsAreRebuiltFromUntypedStorages) {
  PickleWriter p;
  p.op("}").text("w").global("torch._utils", "_rebuild_tensor_v3").op("((").text("storage");
  p.global("torch.storage", "UntypedStorage").text("0").text("cpu").number(4).op("tQ").number(0);
  p.numbers({2, 2}).numbers({2, 1}).op("\x89").global("collections", "OrderedDict").op(")R");
  p.global("torch", "float8_e4m3fn").op("tRs");
  ASSERT_EXPECTED(const auto file, read(torch_file(p.done(), {{"0", raw_array<uint8_t>({0x38, 0x40, 0xb8, 0})}})));
  EXPECT_EQ(file.tensors.at(0).dtype, DType::F8_E4M3);
  EXPECT_EQ(file.tensors.at(0).shape, (std::vector<uint64_t>{2, 2}));
}

TEST(PytorchBin, ParametersAndSharedStoragesAreRead) {
  PickleWriter p;
  p.op("}(").text("lm_head.weight").global("torch._utils", "_rebuild_parameter").op("(");
  p.tensor("FloatStorage", "0", 4, 0, {2, 2}, {2, 1}).op("\x88").global("collections", "OrderedDict").op(")RtR");
  p.text("model.embed_tokens.weight").tensor("FloatStorage", "0", 4, 0, {2, 2}, {2, 1}).op("u");
  ASSERT_EXPECTED(const auto file, read(torch_file(p.done(), {{"0", raw_array<float>({1, 2, 3, 4})}})));
  ASSERT_EQ(file.tensors.size(), 2u);
  EXPECT_EQ(file.tensors[0].data.data(), file.tensors[1].data.data());
}

TEST(PytorchBin, ViewsAreCopiedRowMajor) {
  struct Case {
    std::vector<int64_t> size, stride;
    int64_t offset;
    std::vector<float> expected;
  };
  const Case cases[] = {
      {{3, 2}, {1, 3}, 0, {0, 3, 1, 4, 2, 5}},              // w.t()
      {{2, 2}, {4, 1}, 1, {1, 2, 5, 6}},                    // w[:, 1:3]
      {{3}, {4}, 2, {2, 6, 10}},                            // w[:, 2]
      {{2, 2, 2}, {1, 6, 2}, 0, {0, 2, 6, 8, 1, 3, 7, 9}},  // permuted
      {{1, 3, 1}, {77, 2, 99}, 1, {1, 3, 5}},               // strides of single dimensions do not count
      {{2, 3}, {0, 1}, 4, {4, 5, 6, 4, 5, 6}},              // expand
  };
  for (const Case& c : cases) {
    ASSERT_EXPECTED(const auto checkpoint, open(one_tensor(12, c.offset, c.size, c.stride)));
    EXPECT_EQ(floats(checkpoint.tensors().at(0)), c.expected);
    EXPECT_EQ(checkpoint.tensors()[0].file, nullptr);
  }
}

TEST(PytorchBin, ScalarsAndEmptyTensorsAreTensors) {
  ASSERT_EXPECTED(auto file, read(one_tensor(1, 0, {}, {})));
  EXPECT_EQ(file.tensors.at(0).data.size(), 4u);
  ASSERT_EXPECTED(file, read(one_tensor(4, 4, {0, 5}, {5, 1})));
  EXPECT_TRUE(file.tensors.at(0).data.empty());
}

TEST(PytorchBin, TensorsOutsideTheirStorageAreRefused) {
  EXPECT_FAILS(read(one_tensor(6, 1, {2, 3}, {3, 1})), kInvalid,
               "tensor w: shape [2, 3] with strides [3, 1] at 1 reaches");
  EXPECT_FAILS(read(one_tensor(6, -1, {2, 3}, {3, 1})), kInvalid, "outside its storage");
  EXPECT_FAILS(read(one_tensor(6, 7, {0}, {1})), kInvalid, "outside its storage");
  EXPECT_FAILS(read(one_tensor(6, 0, {2}, {INT64_MAX})), kInvalid, "outside its storage");
  EXPECT_FAILS(read(one_tensor(6, INT64_MAX, {2}, {INT64_MAX})), kInvalid, "outside its storage");
  EXPECT_FAILS(read(one_tensor(6, 0, {INT64_MAX, INT64_MAX}, {1, 1})), kInvalid, "wraps");
  EXPECT_FAILS(read(one_tensor(6, 0, {1 << 30}, {0})), kInvalid, "a view of 4294967296 bytes of a storage of 24");
  EXPECT_FAILS(read(one_tensor(6, 0, {-1}, {1})), kInvalid, "no natural number");
  EXPECT_FAILS(read(one_tensor(6, 0, {2}, {-1})), kInvalid, "no natural number");
  EXPECT_FAILS(read(one_tensor(6, 0, {2, 3}, {1})), kInvalid, "2 dimensions but 1 strides");
  EXPECT_FAILS(read(one_tensor(6, 0, std::vector<int64_t>(17, 1), std::vector<int64_t>(17, 1))), kInvalid,
               "17 dimensions");
  EXPECT_FAILS(read(one_tensor(6, 0, {6}, {1}, 5)), kInvalid, "6 elements declared, 20 bytes in the file");
  EXPECT_FAILS(read(one_tensor(INT64_MAX, 0, {6}, {1}, 6)), kInvalid, "declared");
  PickleWriter p;
  p.op("}").text("w").tensor("FloatStorage", "../../etc/passwd", 2, 0, {2}, {1}).op("s");
  EXPECT_FAILS(read(torch_file(p.done(), {})), kInvalid, "storage archive/data/../../etc/passwd is missing");
}

TEST(PytorchBin, NestedDictsAreFlattened) {
  PickleWriter p;
  const auto tensor = [&](const char* name) { p.text(name).tensor("FloatStorage", "0", 1, 0, {1}, {1}); };
  p.op("}(").text("model").op("}(");
  tensor("tok.weight");
  tensor("norm.weight");
  p.op("u").text("optimizer").op("}(").text("state").op("}").number(0).op("}");
  tensor("exp_avg");
  p.op("ss").op("u").text("config").op("}").text("dim").number(3).op("s").text("iter").number(7);
  p.text("extra").op("}");
  tensor("mask_1");
  p.op("s").text("names").op("](").text("x").op("e").text("rng").global("_codecs", "encode").text("\xff").op("\x85R");
  p.op("u");
  ASSERT_EXPECTED(const auto file, read(torch_file(p.done(), {{"0", raw(1.0f)}})));
  std::vector<std::string> names;
  for (const auto& t : file.tensors) names.push_back(t.name);
  EXPECT_EQ(names, (std::vector<std::string>{"tok.weight", "norm.weight", "extra.mask_1"}));
  EXPECT_EQ(file.dropped,
            (std::vector<std::string>{"optimizer (optimizer state)", "config (no tensors in it)", "iter (not a tensor)",
                                      "names (not a tensor)", "rng (a call of _codecs.encode, not made)"}));
}

TEST(PytorchBin, OtherFilesAreRefusedByName) {
  EXPECT_FAILS(read("\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19."), kUnsupported, "torch's format from before 1.6");
  EXPECT_FAILS(read(test::ZipWriter().add("a/b", "c").done()), kInvalid, "without data.pkl");
  EXPECT_FAILS(read(test::ZipWriter().add("a/data.pkl", "c").add("b/data.pkl", "c").done()), kInvalid, "more than one");
  EXPECT_FAILS(read(test::ZipWriter().add("a/data.pkl", "c").add("a/constants.pkl", "c").done()), kUnsupported,
               "TorchScript");
  EXPECT_FAILS(read(test::ZipWriter().add("a/data.pkl", "c").add("a/byteorder", "big").done()), kUnsupported,
               "byte order big");
  EXPECT_FAILS(read(torch_file(PickleWriter().number(3).done(), {})), kInvalid, "no state dict");
  EXPECT_FAILS(read(torch_file(PickleWriter().op("}").op(")").op("Ns").done(), {})), kInvalid, "dict key");
  EXPECT_FAILS(
      read(torch_file(PickleWriter().op("}").text("a\x01").tensor("FloatStorage", "0", 1, 0, {1}, {1}).op("s").done(),
                      {{"0", raw(1.0f)}})),
      kInvalid, R"(a\x01: the name is not printable)");
}

TEST(PytorchBin, EveryTruncationIsAnError) {
  const std::string bytes = test::small_torch_file();
  for (size_t n = 0; n < bytes.size(); ++n) EXPECT_FALSE(read(bytes.substr(0, n)).has_value()) << n;
  EXPECT_TRUE(read(bytes).has_value());
}

TEST(PytorchBin, FlippedBitsNeverCrash) {
  std::mt19937 rng(3);
  const std::string bytes = test::small_torch_file();
  int readable = 0;
  for (int i = 0; i < 20'000; ++i) readable += read(test::flip_bits(bytes, rng)).has_value() ? 1 : 0;
  EXPECT_GT(readable, 0);
  EXPECT_LT(readable, 20'000);
}

TEST(PytorchBin, ReadsARealTrainingCheckpoint) {
  SHOEHORN_SHARED(path, "data/models/llama2xs/ckpt.pt");
  SHOEHORN_SHARED(bin, "data/models/llama2xs/model.bin");
  ASSERT_EXPECTED(const auto checkpoint, Checkpoint::open(path));
  // Five layers of 9 tensors, embedding, norm and output; its names are llama2.c's own.
  EXPECT_EQ(checkpoint.tensors().size(), 48u);
  const auto* embedding = checkpoint.find("tok_embeddings.weight");
  ASSERT_NE(embedding, nullptr);
  EXPECT_EQ(embedding->shape, (std::vector<uint64_t>{512, 64}));
  ASSERT_NE(checkpoint.find("layers.4.feed_forward.w3.weight"), nullptr);
  const auto has = [&](const std::string& text) {
    return std::find(checkpoint.dropped().begin(), checkpoint.dropped().end(), text) != checkpoint.dropped().end();
  };
  EXPECT_TRUE(has("optimizer (optimizer state)"));
  EXPECT_TRUE(has("config (no tensors in it)"));
  EXPECT_TRUE(has("best_val_loss (a scalar, not a weight)"));
  // llama2.c's export of the same run: seven integers, then the embedding.
  const std::string exported = test::read_text(bin);
  EXPECT_EQ(std::memcmp(exported.data() + 28, embedding->data.data(), embedding->data.size()), 0);
}

}  // namespace
}  // namespace shoehorn::io
