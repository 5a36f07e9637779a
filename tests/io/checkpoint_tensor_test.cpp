// Rows of a tensor as tensors of their own.
#include "io/checkpoint_tensor.h"

#include <gtest/gtest.h>

#include <cstring>

namespace shoehorn::io {
namespace {

/// [12, 3], where element (r, c) is 10 r + c.
std::vector<float> counted() {
  std::vector<float> out;
  for (int r = 0; r < 12; ++r) {
    for (int c = 0; c < 3; ++c) out.push_back(static_cast<float>(10 * r + c));
  }
  return out;
}

std::vector<float> all_floats(const CheckpointTensor& tensor) {
  std::vector<float> out(tensor.n_elements());
  read_floats(tensor, 0, out.size(), out.data());
  return out;
}

TEST(CheckpointTensor, RowsInOnePiece) {
  const auto values = counted();
  const CheckpointTensor whole{"w", DType::F32, {12, 3}, std::as_bytes(std::span(values))};
  const CheckpointTensor part = whole.rows(4, 2);
  EXPECT_EQ(part.shape, (std::vector<uint64_t>{2, 3}));
  EXPECT_EQ(all_floats(part), (std::vector<float>{40, 41, 42, 50, 51, 52}));
  EXPECT_EQ(part.bytes_of(1, 1).data(), part.data.data() + 12);
  EXPECT_EQ(part.bytes_of(1, 1).size(), 12u);
}

TEST(CheckpointTensor, RowsInRuns) {
  const auto values = counted();
  const CheckpointTensor whole{"w", DType::F32, {12, 3}, std::as_bytes(std::span(values))};
  const CheckpointTensor part = whole.rows(2, 4, 2, 6);  // rows 2, 3, 8, 9
  EXPECT_EQ(all_floats(part), (std::vector<float>{20, 21, 22, 30, 31, 32, 80, 81, 82, 90, 91, 92}));
  std::vector<float> some(4);
  read_floats(part, 4, 4, some.data());
  EXPECT_EQ(some, (std::vector<float>{31, 32, 80, 81}));
  std::vector<float> rows(6);
  copy_rows(part, 1, 2, reinterpret_cast<std::byte*>(rows.data()));
  EXPECT_EQ(rows, (std::vector<float>{30, 31, 32, 80, 81, 82}));
  // What they lie in: from row 3 to row 8, rows of others between them.
  EXPECT_EQ(part.bytes_of(1, 2).data(), std::as_bytes(std::span(values)).data() + 3 * 12);
  EXPECT_EQ(part.bytes_of(1, 2).size(), 6u * 12);
  EXPECT_EQ(part.data.data() + part.data.size(), std::as_bytes(std::span(values)).data() + 10 * 12);
}

TEST(CheckpointTensor, ElementsOfAVector) {
  const std::vector<float> values = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11};
  const CheckpointTensor whole{"b", DType::F32, {12}, std::as_bytes(std::span(values))};
  EXPECT_EQ(all_floats(whole.rows(1, 4, 2, 6)), (std::vector<float>{1, 2, 7, 8}));
  EXPECT_EQ(all_floats(whole.rows(5, 3)), (std::vector<float>{5, 6, 7}));
}

}  // namespace
}  // namespace shoehorn::io
