// Learning rotations: the descent stays on its manifold and goes down; what is learned is written and goes on after a kill.
#include "compress/rotate/learn.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <numeric>

#include "compress/rotate/cayley.h"
#include "compress/rotate/rotate.h"
#include "support/support.h"
#include "support/tiny_checkpoint.h"

namespace shoehorn::compress {
namespace {

namespace fs = std::filesystem;

/// With the loss |R - T|^2 and T orthogonal, descent ends at T: from a start in the same half of the orthogonal matrices.
TEST(CayleySgd, FindsARotationAndStaysOrthogonal) {
  const int64_t n = 24;
  at::manual_seed(3);
  const at::Tensor skew = at::randn({n, n}, at::kDouble);
  const at::Tensor target = at::matrix_exp(0.3 * (skew - skew.t()));
  CayleySgd descent({at::eye(n, at::kDouble)}, {.lr = 0.05});
  double worst = 0, loss = 0;
  for (int step = 0; step < 500; ++step) {
    const at::Tensor difference = descent.matrices()[0] - target;
    loss = difference.square().sum().item<double>();
    ASSERT_TRUE(descent.step({2 * difference}, 1 - step / 500.0));
    worst = std::max(worst, orthogonality_defect(descent.matrices()[0]));
  }
  EXPECT_LT(worst, 1e-5);
  EXPECT_LT(loss, 1e-2);
  EXPECT_GT((at::eye(n, at::kDouble) - target).square().sum().item<double>(), 10);
}

/// Steps turn the rows by what the rate says, whatever the unit of the loss.
TEST(CayleySgd, TheRateIsAnAngle) {
  at::manual_seed(4);
  const std::vector<at::Tensor> gradients = {at::randn({40, 40}, at::kDouble), at::randn({8, 8}, at::kDouble)};
  std::vector<at::Tensor> after[2];
  for (const int which : {0, 1}) {
    CayleySgd descent({at::eye(40, at::kDouble), at::eye(8, at::kDouble)}, {.lr = 0.02});
    std::vector<at::Tensor> scaled;
    for (const at::Tensor& gradient : gradients) scaled.push_back(gradient * (which == 0 ? 1.0 : 1e-9));
    ASSERT_TRUE(descent.step(scaled, 0.5));
    after[which] = {descent.matrices()[0].clone(), descent.matrices()[1].clone()};
  }
  double squares = 0;
  for (const size_t i : {0, 1}) {
    EXPECT_LT((after[0][i] - after[1][i]).abs().max().item<double>(), 1e-12);
    squares += (after[0][i] - at::eye(after[0][i].size(0), at::kDouble)).square().sum().item<double>();
  }
  EXPECT_NEAR(std::sqrt(squares / 48), 0.01, 1e-4);
}

TEST(CayleySgd, GradientsThatAreNotFiniteChangeNothing) {
  CayleySgd descent({at::eye(4, at::kDouble)}, {});
  EXPECT_FALSE(descent.step({at::full({4, 4}, std::numeric_limits<double>::infinity(), at::kDouble)}, 1));
  EXPECT_EQ((descent.matrices()[0] - at::eye(4, at::kDouble)).abs().max().item<double>(), 0);
}

/// The gradient that rounding has: through the values, and through the range in proportion to the error.
TEST(Rounding, GradientsFollowTheRange) {
  at::Tensor x = at::tensor({0.9, -3.5, 1.26, 2.0}, at::kDouble).requires_grad_(true);
  const at::Tensor y = round_activations(x, 4);  // steps of 0.5
  const std::vector<double> expected = {1.0, -3.5, 1.5, 2.0};
  for (int64_t i = 0; i < 4; ++i) EXPECT_NEAR(y[i].item<double>(), expected[static_cast<size_t>(i)], 1e-12);
  const at::Tensor weight = at::tensor({1.0, 10.0, 100.0, 1000.0}, at::kDouble);
  const at::Tensor gradient = torch::autograd::grad({(y * weight).sum()}, {x})[0];
  // Errors in steps: 0.2, 0, 0.48, 0. The largest value's magnitude moves the step by 1/7.
  const double through_range = (1.0 * 0.2 + 100.0 * 0.48) / 7;
  EXPECT_NEAR(gradient[0].item<double>(), 1, 1e-9);
  EXPECT_NEAR(gradient[1].item<double>(), 10 - through_range, 1e-9);
  EXPECT_NEAR(gradient[2].item<double>(), 100, 1e-9);
}

TEST(Rounding, WeightsAreWhatTheFormatKeeps) {
  at::manual_seed(5);
  const quant::Format& format = quant::format(quant::Type::Q4_0);
  const at::Tensor w = at::randn({6, 64}, at::kFloat);
  const at::Tensor rounded = round_weights(w, format);
  std::vector<std::byte> block(quant::row_bytes(format, 64));
  std::vector<float> expected(64);
  for (int64_t row = 0; row < 6; ++row) {
    format.encode(w.data_ptr<float>() + row * 64, nullptr, block.data(), 64);
    format.decode(block.data(), expected.data(), 64);
    for (int64_t i = 0; i < 64; ++i) ASSERT_NEAR(rounded[row][i].item<float>(), expected[static_cast<size_t>(i)], 1e-5);
  }
  const at::Tensor narrow = at::randn({6, 48}, at::kFloat);
  EXPECT_EQ((round_weights(narrow, format) - narrow).abs().max().item<float>(), 0) << "no whole blocks";
}

RotateOptions learning(const std::string& model, const std::string& out) {
  RotateOptions options;
  options.model = model;
  options.out = out;
  options.result_dtype = "f32";
  options.resume = true;
  LearnOptions& learn = options.learn;
  learn.steps = 12;
  learn.calib = test::source_dir() + "/models/fable-10m/calib.txt";
  learn.samples = learn.batch = 8;
  learn.tokens = 64;
  learn.held_out = learn.held_out_every = 4;
  learn.micro_batch = 3;
  return options;
}

std::string read_weights(const std::string& directory) { return test::read_text(directory + "/model.safetensors"); }

/// All windows are in every batch, so losses of steps are of the same text. Three bits leave something to gain.
TEST(SlowLearnRotations, TheLossFallsAndTheModelStaysTheSame) {
  const std::string dir = test::temp_dir();
  NoProgress progress;
  RotateOptions options = learning(test::source_dir() + "/models/fable-10m", dir + "/learned");
  options.rotations.r4 = true;
  options.learn.steps = 30;
  options.learn.activation_bits = 3;
  const auto report = rotate(options, progress);
  ASSERT_TRUE(report.has_value()) << report.error().message;
  const LearnReport& learned = report->learned;
  ASSERT_EQ(learned.losses.size(), 30u);
  const auto mean = [&](size_t first) {
    return std::accumulate(learned.losses.begin() + static_cast<std::ptrdiff_t>(first),
                           learned.losses.begin() + static_cast<std::ptrdiff_t>(first + 5), 0.0) / 5;
  };
  EXPECT_LT(mean(25), 0.97 * mean(0));
  EXPECT_LE(learned.held_out_after, learned.held_out_before);
  EXPECT_GT(learned.held_out_before, 0);
  EXPECT_LT(learned.defect, 1e-5);
}

/// A kill between any two saved states: the bytes are those of a run in one piece.
TEST(SlowLearnRotations, GoesOnWhereItWasStopped) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  const std::string dir = test::temp_dir();
  NoProgress quiet;
  RotateOptions options = learning(checkpoint.directory, dir + "/whole");
  options.learn.save_seconds = 0;
  ASSERT_TRUE(rotate(options, quiet).has_value());
  class Stops : public NoProgress {
   public:
    explicit Stops(int after) : left_(after) {}
    bool cancelled() const override { return --left_ < 0; }

   private:
    mutable int left_;
  };
  options.out = dir + "/pieces";
  int stops = 0;
  for (int after = 40;; after += 30) {
    Stops progress(after);
    const auto part = rotate(options, progress);
    if (part) break;
    ASSERT_EQ(part.error().code, ErrorCode::kCancelled) << part.error().message;
    EXPECT_FALSE(fs::exists(options.out));
    ASSERT_LT(++stops, 100);
  }
  EXPECT_GT(stops, 2);
  EXPECT_TRUE(read_weights(dir + "/whole") == read_weights(dir + "/pieces"));
}

TEST(LearnRotations, WhatCannotBeLearnedIsRefused) {
  const auto checkpoint = test::make_tiny_checkpoint(test::tiny_config());
  NoProgress progress;
  const auto message = [&](const std::function<void(RotateOptions&)>& change) -> std::string {
    RotateOptions options = learning(checkpoint.directory, test::temp_dir() + "/no");
    change(options);
    const auto report = rotate(options, progress);
    EXPECT_FALSE(fs::exists(options.out));
    return report ? "" : report.error().message;
  };
  EXPECT_NE(message([](RotateOptions& o) { o.learn.calib = ""; }).find("--calib"), std::string::npos);
  EXPECT_NE(message([](RotateOptions& o) { o.learn.activation_bits = 0; }).find("nothing is rounded"), std::string::npos);
  EXPECT_NE(message([](RotateOptions& o) { o.learn.weight_type = "Q77"; }).find("Q77"), std::string::npos);
  EXPECT_NE(message([](RotateOptions& o) { o.rotations.r1 = o.rotations.r2 = false; o.rotations.r4 = true; }).find("nothing to learn"),
            std::string::npos);
}

}  // namespace
}  // namespace shoehorn::compress
