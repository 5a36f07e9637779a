#include "base/output_file.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <functional>

#include "base/cleanup.h"
#include "support/support.h"

namespace shoehorn {
namespace {
namespace fs = std::filesystem;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

size_t n_files(const std::string& dir) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(dir), fs::directory_iterator()));
}

/// Runs `body` in a child process and returns its wait status.
int in_child(const std::function<void()>& body) {
  const pid_t pid = fork();
  if (pid == 0) {
    body();
    _exit(0);
  }
  int status = -1;
  waitpid(pid, &status, 0);
  return status;
}

TEST(OutputFile, AppearsOnCommitOnly) {
  const std::string dir = test::temp_dir(), path = dir + "/f";
  ASSERT_EXPECTED(OutputFile file, OutputFile::create(path, 11));
  ASSERT_TRUE(file.write(bytes_of("hello ")).has_value());
  ASSERT_TRUE(file.write(bytes_of("world")).has_value());
  EXPECT_EQ(file.size(), 11u);
  ASSERT_TRUE(file.write_at(0, bytes_of("J")).has_value());
  EXPECT_EQ(file.size(), 11u);
  EXPECT_FALSE(fs::exists(path));
  ASSERT_TRUE(file.commit().has_value());
  EXPECT_EQ(test::read_text(path), "Jello world");
  EXPECT_EQ(n_files(dir), 1u);
}

TEST(OutputFile, WithoutCommitTheOldFileStays) {
  const std::string dir = test::temp_dir(), path = dir + "/f";
  test::write_text(path, "old");
  {
    ASSERT_EXPECTED(OutputFile file, OutputFile::create(path));
    ASSERT_TRUE(file.write(bytes_of("new")).has_value());
    OutputFile moved = std::move(file);
    ASSERT_TRUE(moved.write(bytes_of("er")).has_value());
  }
  EXPECT_EQ(test::read_text(path), "old");
  EXPECT_EQ(n_files(dir), 1u);
}

TEST(OutputFile, CommitReplacesTheOldFile) {
  const std::string path = test::temp_dir() + "/f";
  test::write_text(path, "old and longer");
  ASSERT_TRUE(write_file(path, "new").has_value());
  EXPECT_EQ(test::read_text(path), "new");
  ASSERT_TRUE(write_file(path, "").has_value());
  EXPECT_EQ(test::read_text(path), "");
}

TEST(OutputFile, WhatCannotBeCreatedIsNamed) {
  const std::string dir = test::temp_dir();
  for (const std::string& path : {dir, dir + "/absent/f"}) {
    const auto file = OutputFile::create(path);
    ASSERT_FALSE(file.has_value()) << path;
    EXPECT_EQ(file.error().code, ErrorCode::kIo);
    EXPECT_NE(file.error().message.find(path), std::string::npos) << file.error().message;
  }
  EXPECT_EQ(n_files(dir), 0u);
}

TEST(OutputFile, TooLittleDiskIsSaidBeforehand) {
  const std::string dir = test::temp_dir();
  const auto file = OutputFile::create(dir + "/f", uint64_t{1} << 60);
  ASSERT_FALSE(file.has_value());
  EXPECT_EQ(file.error().code, ErrorCode::kTooLarge);
  EXPECT_NE(file.error().message.find("1152921504606846976"), std::string::npos);
  EXPECT_EQ(n_files(dir), 0u);
}

// A full disk, as far as a test can make one: the file size limit.
TEST(OutputFile, AFailedWriteIsAnErrorAndLeavesNothing) {
  const std::string dir = test::temp_dir(), path = dir + "/f";
  test::write_text(path, "old");
  const int status = in_child([&] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{10'000, 10'000};
    setrlimit(RLIMIT_FSIZE, &limit);
    int code = 1;
    {
      auto file = OutputFile::create(path);
      const std::string text(6'000, 'x');
      const bool first = file.has_value() && file->write(bytes_of(text)).has_value();
      const Status second = first ? file->write(bytes_of(text)) : Status();
      code = first && !second && second.error().code == ErrorCode::kIo &&
                     second.error().message.find(path) != std::string::npos
                 ? 0
                 : 1;
    }
    _exit(code);
  });
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_EQ(test::read_text(path), "old");
  EXPECT_EQ(n_files(dir), 1u);
}

TEST(OutputFile, AKilledWriterLeavesTheOldFile) {
  const std::string dir = test::temp_dir(), path = dir + "/f";
  test::write_text(path, "old");
  const int status = in_child([&] {
    auto file = OutputFile::create(path);
    if (file && file->write(bytes_of("half"))) raise(SIGKILL);
  });
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(test::read_text(path), "old");
  // The next run takes the leftover over and leaves none.
  ASSERT_TRUE(write_file(path, "new").has_value());
  EXPECT_EQ(test::read_text(path), "new");
  EXPECT_EQ(n_files(dir), 1u);
}

TEST(OutputFile, ASignalHandlerCanRemoveTheTemporary) {
  const std::string dir = test::temp_dir(), path = dir + "/f";
  const int status = in_child([&] {
    signal(SIGTERM, [](int) {
      remove_registered_files();
      _exit(7);
    });
    auto file = OutputFile::create(path);
    if (file && file->write(bytes_of("half"))) raise(SIGTERM);
  });
  ASSERT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7);
  EXPECT_EQ(n_files(dir), 0u);
}

TEST(OutputFile, TwoWritersOfOneFileDoNotMix) {
  const std::string path = test::temp_dir() + "/f";
  ASSERT_EXPECTED(OutputFile first, OutputFile::create(path));
  auto second = OutputFile::create(path);
  ASSERT_TRUE(first.write(bytes_of("from the first")).has_value());
  if (second) {
    ASSERT_TRUE(second->write(bytes_of("second")).has_value());
  } else {
    EXPECT_EQ(second.error().code, ErrorCode::kIo) << "where files need a name, the second writer is refused";
  }
  ASSERT_TRUE(first.commit().has_value());
  EXPECT_EQ(test::read_text(path), "from the first");
  if (!second) return;
  ASSERT_TRUE(second->commit().has_value());
  EXPECT_EQ(test::read_text(path), "second");
}

TEST(ReadFile, ReadsUpToItsLimit) {
  const std::string dir = test::temp_dir(), path = dir + "/f";
  test::write_text(path, std::string(100'000, 'z'));
  ASSERT_EXPECTED(const std::string text, read_file(path, 100'000));
  EXPECT_EQ(text.size(), 100'000u);
  auto result = read_file(path, 99'999);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kTooLarge);
  result = read_file("/dev/zero", 1'000'000);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kTooLarge);
  result = read_file(dir, 10);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kIo);
  result = read_file(dir + "/absent", 10);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kNotFound);
}

}  // namespace
}  // namespace shoehorn
