// Commands that write are killed at many points, and get read errors, write errors, short writes and a full disk:
// afterwards what was there is there as it was, or what it was to write is there whole; and run again it ends as if
// nothing had been.
//
// SHOEHORN_FAULT_POINTS says how many kills, and a quarter as many faults of each other kind, a command gets (4;
// scripts/crash.sh takes 200); SHOEHORN_FAULT_TABLE names a file that gets a line of JSON for each kind.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include "base/json.h"
#include "cli/program.h"
#include "support/resume.h"
#include "support/small_disk.h"
#include "support/support.h"

namespace shoehorn::test {
namespace {

namespace fs = std::filesystem;
using Strings = std::vector<std::string>;

int points() {
  const char* const value = std::getenv("SHOEHORN_FAULT_POINTS");
  return value != nullptr ? std::max(1, std::atoi(value)) : 4;
}

std::string fable() { return source_dir() + "/models/fable-10m"; }

/// What commands read; nothing of it may ever change.
const std::string& inputs() {
  static const std::string directory = [] {
    const std::string dir = temp_dir();
    const auto make = [](const Strings& command) {
      const Result result = run(command);
      EXPECT_EQ(result.exit_code, 0) << result.err;
    };
    fs::copy(fable(), dir + "/checkpoint", fs::copy_options::recursive);
    write_text(dir + "/text.txt", read_text(fable() + "/calib.txt").substr(0, 60'000));
    write_text(dir + "/prompts.txt", "Once upon a time\nThe king\n");
    make({"convert", dir + "/checkpoint", dir + "/model.gguf", "-q"});
    make({"quantize", dir + "/model.gguf", dir + "/small.gguf", "Q4_0", "--no-check", "-q"});
    make({"seal", dir + "/small.gguf", dir + "/small.sealed", "--key", dir + "/seal.key", "--new-key", "-q"});
    write_text(dir + "/signed.txt", "signed once");
    make({"sign", dir + "/signed.txt", "--key", dir + "/sign.key", "--new-key", "-q"});
    fs::create_directory(dir + "/records");
    write_text(dir + "/records/inspect.json", run({"inspect", dir + "/small.gguf", "--json"}).out);
    return dir;
  }();
  return directory;
}

Strings words(const std::string& text) {
  std::istringstream in(text);
  return {std::istream_iterator<std::string>(in), {}};
}

struct WritingCommand {
  const char* name;
  Strings arguments;             ///< IN/ stands for the inputs, DIR/ for where it writes
  const char* output;            ///< in DIR
  bool resumes = false;          ///< takes --resume, and goes on from what a killed run left
  bool workshop = false;         ///< shoehorn-workshop does it
  bool same_bytes = true;        ///< writes the same every time
  bool takes_place = true;       ///< an output that is there is replaced
  const char* ending = nullptr;  ///< of a text that depends on what can be read, and when: how it ends when it is whole
  bool check_needs_text = false;  ///< a GGUF whose metadata say what its check found, if the text for it could be read
};

const std::vector<WritingCommand>& writing_commands() {
  static const std::vector<WritingCommand> all = {
      {.name = "convert", .arguments = words("convert IN/checkpoint DIR/out.gguf -q"), .output = "out.gguf"},
      {.name = "quantize",
       .arguments = words("quantize IN/checkpoint DIR/out.gguf Q4_K_M -q"),
       .output = "out.gguf",
       .check_needs_text = true},
      {.name = "quantize_gptq",
       .arguments = words("quantize IN/checkpoint DIR/out.gguf Q4_0 --method gptq --calib IN/text.txt --samples 4 "
                          "--seq-len 64 --no-check -q -t 1"),
       .output = "out.gguf",
       .resumes = true,
       .workshop = true},
      {.name = "imatrix",
       .arguments = words("imatrix -m IN/small.gguf -f IN/text.txt -c 64 --chunks 4 -o DIR/out.gguf -q"),
       .output = "out.gguf"},
      {.name = "prune",
       .arguments = words("prune IN/checkpoint -o DIR/out --method obs --layers 1-3 --calib IN/text.txt --samples 4 "
                          "--seq-len 64 -q -t 1"),
       .output = "out",
       .resumes = true,
       .workshop = true,
       .takes_place = false},
      {.name = "heal",
       .arguments =
           words("heal IN/checkpoint -o DIR/out --data IN/text.txt --max-steps 3 --batch 2 --micro-batch 2 --cutoff 32 "
                 "--validation 2 --validate-every 2 --warmup 1 -q -t 1"),
       .output = "out",
       .resumes = true,
       .workshop = true,
       .takes_place = false},
      {.name = "rotate",
       .arguments = words("rotate IN/checkpoint -o DIR/out --dtype bf16 --no-check -q -t 1"),
       .output = "out",
       .resumes = true,
       .workshop = true,
       .takes_place = false},
      {.name = "run_prompts",
       .arguments = words("run -m IN/small.gguf --prompts IN/prompts.txt -o DIR/out.txt -n 8 --temp 0 -c 64 -q"),
       .output = "out.txt"},
      // What is there and is no cache is an error.
      {.name = "prompt_cache",
       .arguments =
           words("run -m IN/small.gguf -p Once --no-conversation --prompt-cache DIR/out.cache -n 4 --temp 0 -c 64 -q"),
       .output = "out.cache",
       .takes_place = false},
      {.name = "seal",
       .arguments = words("seal IN/small.gguf DIR/out.sealed --key IN/seal.key -q"),
       .output = "out.sealed",
       .same_bytes = false},
      {.name = "unseal",
       .arguments = words("unseal IN/small.sealed DIR/out.gguf --key IN/seal.key -q"),
       .output = "out.gguf"},
      {.name = "sign",
       .arguments = words("sign DIR/model.gguf --key IN/sign.key --comment one -q"),
       .output = "model.gguf.minisig"},
      {.name = "verify_manifest",
       .arguments = words("verify DIR/model.gguf --write-manifest -q"),
       .output = "model.gguf.manifest"},
      {.name = "report",
       .arguments = words("report IN/records -o DIR/out.html -q"),
       .output = "out.html",
       .same_bytes = false,
       .ending = "</html>\n"},
  };
  return all;
}

void PrintTo(const WritingCommand& command, std::ostream* out) { *out << command.name; }

/// Paths of a directory and all below it, by relative name, with the bytes of files.
using Tree = std::map<std::string, std::vector<std::byte>>;

constexpr const char* kOld = "what was there before";

class Crash : public testing::TestWithParam<WritingCommand> {
 protected:
  void SetUp() override {
    if (GetParam().workshop && !fs::exists(fs::path(SHOEHORN_BINARY).parent_path() / "shoehorn-workshop"))
      GTEST_SKIP() << "this build has no workshop";
    inputs();
    before_ = contents(inputs());
    const std::string dir = fresh(false);
    const std::string count = dir + ".count";
    const Result whole = Program(arguments(dir), "", faults("", count)).wait();
    ASSERT_EQ(whole.exit_code, 0) << whole.err;
    complete_ = contents(dir);
    ASSERT_TRUE(complete_.size() > fresh_files_.size()) << "it writes nothing";
    std::ifstream(count) >> n_calls_ >> n_reads_ >> n_writes_;
    ASSERT_GT(n_calls_, 0);
  }

  void TearDown() override {
    if (IsSkipped()) return;
    EXPECT_TRUE(contents(inputs()) == before_) << "what it read was changed";
  }

  /// A new directory with what the command finds there; with an old output where one may be.
  std::string fresh(bool old) {
    const std::string dir = temp_dir() + "/out";
    fs::create_directory(dir);
    fresh_files_.clear();
    for (const std::string& word : GetParam().arguments) {
      if (word != "DIR/model.gguf") continue;
      fs::copy_file(inputs() + "/small.gguf", dir + "/model.gguf");
      fresh_files_.insert("model.gguf");
    }
    if (old && GetParam().takes_place) write_text(dir + "/" + GetParam().output, kOld);
    return dir;
  }

  Strings arguments(const std::string& dir, bool resume = false) const {
    Strings out = GetParam().arguments;
    for (std::string& word : out) {
      if (word.starts_with("IN/")) word = inputs() + word.substr(2);
      if (word.starts_with("DIR/")) word = dir + word.substr(3);
    }
    if (resume && GetParam().resumes) out.push_back("--resume");
    return out;
  }

  std::map<std::string, std::string> faults(const std::string& fault, const std::string& count = "") const {
    return {{"LD_PRELOAD", SHOEHORN_FAULTS},
            {"SHOEHORN_FAULT", fault},
            {"SHOEHORN_COUNT", count},
            {"SHOEHORN_FAULT_PROGRAM", GetParam().workshop ? "shoehorn-workshop" : "shoehorn"},
            {"SHOEHORN_FAULT_UNDER", fs::temp_directory_path().string()},
            {"OMP_WAIT_POLICY", "passive"}};
  }

  bool is_whole(const std::string& path, const std::vector<std::byte>& expected) const {
    if (GetParam().ending != nullptr) return read_text(path).ends_with(GetParam().ending);
    if (GetParam().check_needs_text && read_bytes(path) != expected) return run({"verify", path}).exit_code == 0;
    return GetParam().same_bytes ? read_bytes(path) == expected : fs::file_size(path) == expected.size();
  }

  /// The output is what was there, or all that was to be written.
  void expect_old_or_new(const std::string& dir, bool old) {
    const std::string path = dir + "/" + GetParam().output;
    const bool had_one = old && GetParam().takes_place;
    if (!fs::exists(path)) {
      if (had_one) n_lost_ += std::string_view(kOld).size();
      EXPECT_FALSE(had_one) << "what was there is gone";
      ++n_kept_;
      return;
    }
    if (had_one && fs::is_regular_file(path) && read_text(path) == kOld) {
      ++n_kept_;
      return;
    }
    ++n_written_;
    for (const auto& [name, bytes] : complete_) {
      if (!name.starts_with(GetParam().output)) continue;
      const bool whole = fs::exists(dir + "/" + name) && is_whole(dir + "/" + name, bytes);
      if (!whole) n_lost_ += bytes.size();
      EXPECT_TRUE(whole) << name << " is not what it was to be";
    }
  }

  /// Again, without a fault: as if nothing had been, and nothing else is left in the directory.
  void expect_it_ends_well(const std::string& dir) {
    const Result again = Program(arguments(dir, true)).wait();
    ASSERT_EQ(again.exit_code, 0) << again.err;
    const Tree found = contents(dir);
    for (const auto& [name, bytes] : found) {
      ASSERT_TRUE(complete_.contains(name)) << name << " was left behind";
      EXPECT_TRUE(!GetParam().same_bytes || bytes == complete_.at(name)) << name;
    }
    EXPECT_EQ(found.size(), complete_.size());
  }

  /// The nth of `points` places, spread over all.
  static long place(long n_places, int i, int n) {
    return 1 + static_cast<long>((static_cast<double>(n_places) - 1) * i / std::max(1, n - 1));
  }

  void note(const char* kind, long tried, long of) const {
    const char* const file = std::getenv("SHOEHORN_FAULT_TABLE");
    if (file == nullptr) return;
    std::ofstream(file, std::ios::app) << Json{{"command", GetParam().name},
                                               {"fault", kind},
                                               {"tried", tried},
                                               {"places", of},
                                               {"kept", n_kept_},
                                               {"written", n_written_},
                                               {"bytes_lost", n_lost_}}
                                              .dump()
                                       << "\n";
  }

  void expect_harmless(const char* kind, long n_places) {
    n_kept_ = n_written_ = 0;
    const int n = static_cast<int>(std::min<long>(n_places, std::max(2, points() / 4)));
    for (int i = 0; i < n; ++i) {
      const std::string fault = std::string(kind) + ":" + std::to_string(place(n_places, i, n));
      SCOPED_TRACE(fault);
      const std::string dir = fresh(true);
      const Result result = Program(arguments(dir), "", faults(fault)).wait();
      EXPECT_TRUE(result.exit_code == 0 || result.exit_code == 1) << result.exit_code << ": " << result.err;
      EXPECT_TRUE(result.exit_code == 0 || result.err.find("shoehorn") != std::string::npos) << "it says nothing";
      expect_old_or_new(dir, true);
      expect_it_ends_well(dir);
      if (HasFailure()) return;
    }
    note(kind, n, n_places);
  }

  Tree before_, complete_;
  std::set<std::string> fresh_files_;
  long n_calls_ = 0, n_reads_ = 0, n_writes_ = 0, n_kept_ = 0, n_written_ = 0;
  uint64_t n_lost_ = 0;  ///< bytes of outputs that were neither what was there nor what was to come
};

TEST_P(Crash, KillsLoseNothing) {
  // Calls of the libraries' start are many and all alike: no more kills than there are calls.
  const int n = static_cast<int>(std::min<long>(n_calls_, points()));
  for (int i = 0; i < n; ++i) {
    const std::string fault = "kill:" + std::to_string(place(n_calls_, i, n));
    SCOPED_TRACE(fault);
    const bool old = i % 2 == 0;
    const std::string dir = fresh(old);
    const Result result = Program(arguments(dir), "", faults(fault)).wait();
    EXPECT_TRUE(result.exit_code == 128 + SIGKILL || result.exit_code == 0) << result.exit_code << ": " << result.err;
    expect_old_or_new(dir, old);
    expect_it_ends_well(dir);
    if (HasFailure()) return;
  }
  note("kill", n, n_calls_);
}

TEST_P(Crash, ReadErrorsLoseNothing) { expect_harmless("eio-read", n_reads_); }

TEST_P(Crash, WriteErrorsLoseNothing) {
  expect_harmless("eio-write", n_writes_);
  expect_harmless("enospc", n_writes_);
}

TEST_P(Crash, ShortWritesAreGoneOnWith) {
  const int n = static_cast<int>(std::min<long>(n_writes_, std::max(2, points() / 4)));
  for (int i = 0; i < n; ++i) {
    const std::string fault = "short:" + std::to_string(place(n_writes_, i, n));
    SCOPED_TRACE(fault);
    const std::string dir = fresh(true);
    const Result result = Program(arguments(dir), "", faults(fault)).wait();
    ASSERT_EQ(result.exit_code, 0) << result.err;
    expect_old_or_new(dir, false);
    if (HasFailure()) return;
  }
  note("short write", n, n_writes_);
}

TEST_P(Crash, AFullDiskLosesNothing) {
  uint64_t size = 0;
  for (const auto& [name, bytes] : complete_) size += bytes.size();
  const std::string mount = temp_dir() + "/disk";
  const SmallDisk disk(mount, std::to_string(2 * size + (4 << 20)).c_str());
  if (!disk.mounted()) GTEST_SKIP() << "only root may mount a file system";
  const std::string model = fresh(true);
  fs::copy(model, mount + "/out", fs::copy_options::recursive);
  disk.fill();
  const Result result = run(arguments(mount + "/out"));
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_TRUE(result.err.find("No space left") != std::string::npos || result.err.find(" free") != std::string::npos)
      << result.err;
  expect_old_or_new(mount + "/out", true);
  disk.empty();
}

INSTANTIATE_TEST_SUITE_P(Commands, Crash, testing::ValuesIn(writing_commands()),
                         [](const auto& parameter) { return std::string(parameter.param.name); });

}  // namespace
}  // namespace shoehorn::test
