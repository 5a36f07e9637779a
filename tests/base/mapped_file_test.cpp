#include "base/mapped_file.h"

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>

#include "base/memory.h"
#include "base/read_ahead.h"
#include "support/support.h"

namespace shoehorn {
namespace {

std::string_view view(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

TEST(MappedFile, MapsTheWholeFile) {
  const std::string path = test::temp_dir() + "/f";
  for (const size_t size : {size_t{1}, size_t{4095}, size_t{4096}, size_t{4097}, size_t{1'000'000}}) {
    std::string text(size, 'x');
    text.back() = 'y';
    test::write_text(path, text);
    ASSERT_EXPECTED(const auto file, MappedFile::open(path));
    EXPECT_EQ(view(file), text);
    EXPECT_EQ(file.path(), path);
  }
}

TEST(MappedFile, AnEmptyFileIsAnEmptySpan) {
  const std::string path = test::temp_dir() + "/empty";
  test::write_text(path, "");
  ASSERT_EXPECTED(const auto file, MappedFile::open(path));
  EXPECT_TRUE(file.bytes().empty());
  file.release(file.bytes());
}

TEST(MappedFile, WhatCannotBeMappedIsNamed) {
  const std::string dir = test::temp_dir();
  auto result = MappedFile::open(dir + "/absent");
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kNotFound);
  EXPECT_NE(result.error().message.find("/absent"), std::string::npos);
  result = MappedFile::open(dir);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kIo);
  EXPECT_NE(result.error().message.find(dir), std::string::npos);
  EXPECT_FALSE(MappedFile::open("/dev/null").has_value());
  EXPECT_FALSE(MappedFile::open("").has_value());
}

TEST(MappedFile, OutlivesItsNameAndMoves) {
  const std::string path = test::temp_dir() + "/f";
  test::write_text(path, "content");
  ASSERT_EXPECTED(MappedFile file, MappedFile::open(path));
  unlink(path.c_str());
  MappedFile moved = std::move(file);
  EXPECT_EQ(view(moved), "content");
  MappedFile assigned;
  assigned = std::move(moved);
  EXPECT_EQ(view(assigned), "content");
}

TEST(MappedFile, ReleasedPagesCanBeReadAgain) {
  const std::string path = test::temp_dir() + "/f";
  std::string text(100'000, 'a');
  for (size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 7);
  test::write_text(path, text);
  ASSERT_EXPECTED(const auto file, MappedFile::open(path));
  ASSERT_EQ(view(file), text);
  file.release(file.bytes());
  EXPECT_EQ(view(file), text);
  for (size_t begin = 0; begin < 10'000; begin += 997) {
    file.release(file.bytes().subspan(begin, 20'000));
    file.release(file.bytes().subspan(begin, 0));
    file.release(file.bytes().subspan(text.size() - begin, begin));
  }
  EXPECT_EQ(view(file), text);
}

TEST(MappedFile, ACopyHasTheSameBytes) {
  const std::string path = test::temp_dir() + "/f";
  for (const size_t size : {size_t{0}, size_t{1}, size_t{4097}, size_t{2} << 20, (size_t{9} << 20) + 1}) {
    std::string text(size, 'x');
    for (size_t i = 0; i < size; i += 1001) text[i] = static_cast<char>(i * 7);
    test::write_text(path, text);
    ASSERT_EXPECTED(const auto file, MappedFile::open(path, FileMode::kCopy));
    EXPECT_EQ(view(file), text);
    file.release(file.bytes());
    EXPECT_EQ(view(file), text) << "release() took the bytes of a copy";
    test::write_text(path, "");
    EXPECT_EQ(view(file), text) << "the copy is none";
  }
  EXPECT_EQ(MappedFile::open(path + "x", FileMode::kCopy).error().code, ErrorCode::kNotFound);
}

TEST(MappedFile, ACopyThatDoesNotFitIsRefusedWithTheNumbers) {
  const std::string path = test::temp_dir() + "/sparse";
  test::write_text(path, "x");
  ASSERT_EQ(truncate(path.c_str(), off_t{1} << 42), 0);
  const auto result = MappedFile::open(path, FileMode::kCopy);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kTooLarge);
  for (const char* part : {"/sparse", "4096.00 GiB", "are available"}) {
    EXPECT_NE(result.error().message.find(part), std::string::npos) << result.error().message;
  }
}

// The sanitizers make mlock do nothing.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
TEST(MappedFile, LocksWhatTheLimitAllowsAndSaysHowToRaiseIt) {
  const std::string path = test::temp_dir() + "/f";
  test::write_text(path, std::string(1 << 20, 'x'));
  for (const FileMode mode : {FileMode::kMap, FileMode::kCopy}) {
    ASSERT_EXPECTED(const auto file, MappedFile::open(path, mode));
    // In a process that may not lock more than the limit: root may.
    const auto try_with = [&](rlim_t limit) {
      std::array<int, 2> ends = {};
      EXPECT_EQ(pipe(ends.data()), 0);
      const pid_t child = fork();
      if (child == 0) {
        const struct rlimit limits = {limit, limit};
        setrlimit(RLIMIT_MEMLOCK, &limits);
        if (getuid() == 0 && setuid(65534) != 0) _exit(1);
        const Status locked = file.lock();
        const std::string message = locked ? "locked" : locked.error().message;
        _exit(write(ends[1], message.data(), message.size()) < 0);
      }
      close(ends[1]);
      std::string message(1000, 0);
      message.resize(static_cast<size_t>(std::max<ssize_t>(0, read(ends[0], message.data(), message.size()))));
      close(ends[0]);
      waitpid(child, nullptr, 0);
      return message;
    };
    const std::string refused = try_with(64 << 10);
    for (const char* part : {path.c_str(), "1.00 MiB", "64.0 KiB", "ulimit -l"}) {
      EXPECT_NE(refused.find(part), std::string::npos) << refused;
    }
    struct rlimit limits = {};
    getrlimit(RLIMIT_MEMLOCK, &limits);
    if (getuid() == 0 || limits.rlim_max >= rlim_t{2} << 20) {
      EXPECT_EQ(try_with(2 << 20), "locked");
    }
  }
  EXPECT_TRUE(MappedFile().lock().has_value());
}
#endif

TEST(ReadAhead, LoadsAndStopsAtTheLimit) {
  const std::string path = test::temp_dir() + "/f";
  std::string text(5'000'000, 'a');
  test::write_text(path, text);
  ASSERT_EXPECTED(const auto file, MappedFile::open(path));
  for (const uint64_t limit : {uint64_t{0}, uint64_t{1'000'000}, UINT64_MAX}) {
    ReadAhead whole({file.bytes()}, limit);
    whole.wait();
    whole.wait();
    // Ranges need not lie on pages, and the end of the object ends the reading.
    const ReadAhead parts({file.bytes().subspan(4'000'001), {}, file.bytes().subspan(17, 3)}, limit);
  }
  EXPECT_EQ(view(file), text);
  ReadAhead().wait();
}

TEST(AvailableMemory, IsWhatTheTightestGroupHasLeft) {
  const std::string root = test::temp_dir(), groups = root + "/sys/fs/cgroup";
  std::filesystem::create_directories(root + "/proc/self");
  std::filesystem::create_directories(groups + "/a/b");
  test::write_text(root + "/proc/meminfo", "MemTotal: 8000 kB\nMemFree: 10 kB\nMemAvailable: 5000 kB\n");
  EXPECT_EQ(available_memory(root), 5000 * 1024u);
  test::write_text(root + "/proc/self/cgroup", "0::/a/b\n");
  test::write_text(groups + "/a/b/memory.max", "max\n");
  EXPECT_EQ(available_memory(root), 5000 * 1024u);
  test::write_text(groups + "/a/memory.max", "4000000\n");
  test::write_text(groups + "/a/memory.current", "3000000\n");
  EXPECT_EQ(available_memory(root), 1'000'000u);
  test::write_text(groups + "/a/memory.stat", "anon 5\nactive_file 500000\ninactive_file 200000\n");
  EXPECT_EQ(available_memory(root), 1'700'000u) << "page cache is let go when memory is short";
  test::write_text(groups + "/a/memory.current", "5000000\n");
  EXPECT_EQ(available_memory(root), 0u);
  test::write_text(root + "/proc/self/cgroup", "3:memory:/a\n");
  test::write_text(root + "/proc/self/mountinfo", "1 2 0:3 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n");
  std::filesystem::create_directories(groups + "/memory/a");
  test::write_text(groups + "/memory/a/memory.limit_in_bytes", "9223372036854771712\n");
  EXPECT_EQ(available_memory(root), 5000 * 1024u);
  test::write_text(groups + "/memory/memory.limit_in_bytes", "900000\n");
  test::write_text(groups + "/memory/memory.usage_in_bytes", "800000\n");
  test::write_text(groups + "/memory/memory.stat", "total_inactive_file 300000\ninactive_file 1\n");
  EXPECT_EQ(available_memory(root), 400'000u);
}

TEST(MappedFile, KnowsWhatIsMappedAtAnAddress) {
  const std::string path = test::temp_dir() + "/file";
  test::write_text(path, std::string(10'000, 'x'));
  const std::byte* inside = nullptr;
  {
    ASSERT_EXPECTED(const auto file, MappedFile::open(path));
    inside = file.bytes().data() + 9'999;
    EXPECT_STREQ(mapped_path_at(inside), path.c_str());
    EXPECT_EQ(mapped_path_at(inside + 1), nullptr);
    EXPECT_EQ(mapped_path_at(&path), nullptr);
  }
  EXPECT_EQ(mapped_path_at(inside), nullptr);
}

TEST(MappedFile, MadeOnesAreWhatFillsThem) {
  ASSERT_EXPECTED(const auto made, MappedFile::made("name", 5000, [](std::span<std::byte> into) {
                    std::ranges::fill(into, std::byte{7});
                    return Status();
                  }));
  EXPECT_EQ(made.path(), "name");
  EXPECT_EQ(made.bytes().size(), 5000u);
  EXPECT_EQ(made.bytes()[4999], std::byte{7});
  const auto failed = MappedFile::made("name", 10, [](std::span<std::byte>) -> Status { return fail(ErrorCode::kInvalid, "no"); });
  ASSERT_FALSE(failed.has_value());
  EXPECT_EQ(failed.error().message, "no");
  const auto too_large = MappedFile::made("name", size_t{1} << 46, [](std::span<std::byte>) { return Status(); });
  ASSERT_FALSE(too_large.has_value());
  EXPECT_EQ(too_large.error().code, ErrorCode::kTooLarge);
}

}  // namespace
}  // namespace shoehorn
