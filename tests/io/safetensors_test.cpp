#include "io/safetensors.h"

#include "io_support.h"

namespace shoehorn::io {
namespace {

using test::ExactBytes;
using test::raw;

std::string file_of(const std::string& header, size_t n_data) {
  std::string data(n_data, '\0');
  for (size_t i = 0; i < n_data; ++i) data[i] = static_cast<char>(i);
  return raw(uint64_t{header.size()}) + header + data;
}

Expected<std::vector<StoredTensor>> read(const std::string& bytes) {
  const ExactBytes exact(bytes);
  auto tensors = read_safetensors(exact.span(), "f");
  if (tensors) {
    // Touch every byte: a range outside the allocation is for AddressSanitizer to see.
    for (const StoredTensor& tensor : *tensors) {
      volatile int sum = 0;
      for (const std::byte b : tensor.data) sum = sum + std::to_integer<int>(b);
    }
  }
  return tensors;
}

const std::string kGood = R"({"__metadata__":{"format":"pt","n":{"deep":[1,2]}},)"
                          R"("b":{"dtype":"F32","shape":[2,1],"data_offsets":[8,16]},)"
                          R"("a":{"shape":[3],"dtype":"BF16","data_offsets":[0,6],"note":{"x":[1]}}}   )";

TEST(Safetensors, ReadsTensorsInTheOrderOfTheirData) {
  const std::string bytes = file_of(kGood, 16);
  const ExactBytes exact(bytes);
  ASSERT_EXPECTED(const auto tensors, read_safetensors(exact.span(), "f"));
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_EQ(tensors[0].name, "a");
  EXPECT_EQ(tensors[0].dtype, DType::BF16);
  EXPECT_EQ(tensors[0].shape, std::vector<uint64_t>{3});
  EXPECT_EQ(tensors[1].name, "b");
  EXPECT_EQ(tensors[1].shape, (std::vector<uint64_t>{2, 1}));
  // Zero copy.
  EXPECT_EQ(tensors[1].data.data(), exact.span().data() + 8 + kGood.size() + 8);
  EXPECT_EQ(tensors[1].data.size(), 8u);
}

TEST(Safetensors, ReadsScalarsEmptyTensorsAndFilesWithoutTensors) {
  ASSERT_EXPECTED(auto tensors, read(file_of("{}", 0)));
  EXPECT_TRUE(tensors.empty());
  ASSERT_EXPECTED(tensors, read(file_of(R"({"s":{"dtype":"I64","shape":[],"data_offsets":[0,8]},)"
                                        R"("e":{"dtype":"F16","shape":[0,5],"data_offsets":[3,3]}})",
                                        8)));
  ASSERT_EQ(tensors.size(), 2u);
}

TEST(Safetensors, HeaderLengthIsChecked) {
  EXPECT_FAILS(read(""), kInvalid, "too short");
  EXPECT_FAILS(read("1234567"), kInvalid, "7 bytes, too short");
  EXPECT_FAILS(read(raw(uint64_t{1}) + ""), kInvalid, "past the end");
  EXPECT_FAILS(read(raw(uint64_t{100'000'001}) + "{}"), kInvalid, "over the limit of 100000000");
  EXPECT_FAILS(read(raw(UINT64_MAX) + "{}"), kInvalid, "over the limit");
  EXPECT_FAILS(read(raw(uint64_t{3}) + "{}"), kInvalid, "past the end");
  EXPECT_FAILS(read(raw(uint64_t{0})), kInvalid, "not valid JSON");
}

struct Bad {
  const char* header;
  const char* reason;
};

TEST(Safetensors, MalformedEntriesAreNamed) {
  const Bad cases[] = {
      {"[1]", "not a JSON object"},
      {"7", "not a JSON object"},
      {"{\"a\":", "not valid JSON"},
      {"{} x", "not valid JSON"},
      {"{\"a\":1}", "a is not an object"},
      {"{\"a\":[1]}", "a is not an object"},
      {R"({"a":{"shape":[1],"data_offsets":[0,4]}})", "tensor a: has no dtype"},
      {R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", "tensor a: has no shape"},
      {R"({"a":{"dtype":"F32","shape":[1]}})", "tensor a: has no data_offsets"},
      {R"({"a":{"dtype":"F4","shape":[1],"data_offsets":[0,4]}})", "dtype F4 is not supported"},
      {R"({"a":{"dtype":7,"shape":[1],"data_offsets":[0,4]}})", "dtype is malformed"},
      {R"({"a":{"dtype":["F32"],"shape":[1],"data_offsets":[0,4]}})", "dtype is malformed"},
      {R"({"a":{"dtype":{},"shape":[1],"data_offsets":[0,4]}})", "dtype is an object"},
      {R"({"a":{"dtype":"F32","shape":1,"data_offsets":[0,4]}})", "shape is malformed"},
      {R"({"a":{"dtype":"F32","shape":[[1]],"data_offsets":[0,4]}})", "shape is malformed"},
      {R"({"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}})", "shape is malformed"},
      {R"({"a":{"dtype":"F32","shape":[{}],"data_offsets":[0,4]}})", "shape is an object"},
      {R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", "a negative number"},
      {R"({"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}})", "1.5, not a whole number"},
      {R"({"a":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]}})", "not a whole number"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", "1 numbers, not 2"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}})", "3 numbers, not 2"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", "run backwards"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "takes 8 bytes, data_offsets give 4"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[14,18]}})", "ends at byte 18 of the data, the file holds 16"},
      {R"({"a":{"dtype":"U8","shape":[4611686018427387904,8],"data_offsets":[0,0]}})", "wraps"},
      {R"({"a":{"dtype":"F64","shape":[4611686018427387904],"data_offsets":[0,0]}})", "wraps"},
      {R"({"a":{"dtype":"F32","shape":[1],"shape":[1],"data_offsets":[0,4]}})", "shape is given twice"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
       "a is named twice"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},)"
       R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
       "a and b overlap"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
       "a and b overlap"},
      {R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}})",
       "more than 16 numbers"},
      {"{\"\xff\":{}}", "not valid JSON"},
  };
  for (const Bad& bad : cases) EXPECT_FAILS(read(file_of(bad.header, 16)), kInvalid, bad.reason) << bad.header;
}

TEST(Safetensors, NamesInMessagesArePrintable) {
  const auto result = read(file_of(R"({"a\u001b[2J\n":{"dtype":"F32","shape":[1]}})", 0));
  EXPECT_FAILS(result, kInvalid, R"(tensor a\x1b[2J\x0a: has no data_offsets)");
}

TEST(Safetensors, DeepJsonIsRefused) {
  for (const std::string& header : {"{\"__metadata__\":" + std::string(100'000, '['),
                                   "{\"a\":{\"x\":" + std::string(100'000, '['), std::string(100'000, '[')}) {
    EXPECT_FALSE(read(file_of(header, 0)).has_value());
  }
  std::string objects = "{\"__metadata__\":";
  for (int i = 0; i < 10'000; ++i) objects += "{\"a\":";
  EXPECT_FAILS(read(file_of(objects, 0)), kInvalid, "nested deeper than 16");
}

TEST(Safetensors, EveryTruncationIsAnError) {
  const std::string bytes = file_of(kGood, 16);
  for (size_t n = 0; n < bytes.size(); ++n) {
    EXPECT_FALSE(read(bytes.substr(0, n)).has_value()) << n << " of " << bytes.size() << " bytes";
  }
  EXPECT_TRUE(read(bytes).has_value());
}

TEST(Safetensors, FlippedBitsNeverCrash) {
  std::mt19937 rng(1);
  const std::string bytes = file_of(kGood, 16);
  int readable = 0;
  for (int i = 0; i < 20'000; ++i) readable += read(test::flip_bits(bytes, rng)).has_value() ? 1 : 0;
  EXPECT_GT(readable, 0);
  EXPECT_LT(readable, 20'000);
}

}  // namespace
}  // namespace shoehorn::io
