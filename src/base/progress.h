// Progress and cancellation as the library sees them: it reports, the command line draws.
#pragma once

#include <cstdint>
#include <string_view>

namespace shoehorn {

/// Receives progress of long work. Called from the thread that runs the work.
class Progress {
 public:
  virtual ~Progress() = default;
  /// A new stage of `total` units (bytes, chunks, tokens) begins.
  virtual void begin(std::string_view stage, uint64_t total) = 0;
  virtual void advance(uint64_t units) = 0;
  virtual void end() = 0;
  /// A remark worth the user's attention (a dropped tensor, a fallback).
  virtual void note(std::string_view text) = 0;
  /// True when the user asked to stop; the work returns ErrorCode::kCancelled soon after.
  virtual bool cancelled() const { return false; }
};

/// Swallows everything.
class NoProgress : public Progress {
 public:
  void begin(std::string_view, uint64_t) override {}
  void advance(uint64_t) override {}
  void end() override {}
  void note(std::string_view) override {}
};

}  // namespace shoehorn
