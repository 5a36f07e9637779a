#include "seal/sealed_file.h"

#include <gtest/gtest.h>
#include <pty.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <random>

#include "support/support.h"

namespace shoehorn::seal {
namespace {

namespace fs = std::filesystem;
constexpr size_t kHeaderBytes = 120, kChunk = 1 << 20, kTag = 17;

std::vector<std::byte> noise(size_t n) {
  std::mt19937_64 random(n);
  std::vector<std::byte> out(n);
  for (std::byte& byte : out) byte = static_cast<std::byte>(random());
  return out;
}

Key key(char fill = 'k') { return {Secret(std::string(kKeyBytes, fill)), false}; }

std::string plain_file(size_t n) {
  const std::string path = test::temp_dir() + "/plain";
  test::write_bytes(path, noise(n));
  return path;
}

std::string sealed_file(size_t n, const Key& with = key()) {
  NoProgress progress;
  const std::string path = test::temp_dir() + "/sealed";
  const Status sealed = seal_file(plain_file(n), path, with, progress);
  EXPECT_TRUE(sealed.has_value()) << sealed.error().message;
  return path;
}

Expected<MappedFile> open(const std::string& path, const Key& with = key()) {
  auto file = MappedFile::open(path);
  if (!file) return file;
  return open_sealed(*file, with);
}

void expect_refused(const Expected<MappedFile>& result, const std::string& path, const char* reason) {
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().code, ErrorCode::kInvalid);
  EXPECT_NE(result.error().message.find(reason), std::string::npos) << result.error().message;
  EXPECT_NE(result.error().message.find(path), std::string::npos) << result.error().message;
}

TEST(SealedFile, ComesBackAsItWas) {
  NoProgress progress;
  for (const size_t n : {size_t{0}, size_t{1}, size_t{1000}, kChunk - 1, kChunk, kChunk + 1, 3 * kChunk + 5}) {
    SCOPED_TRACE(n);
    const std::string sealed = sealed_file(n), out = test::temp_dir() + "/out";
    EXPECT_EQ(fs::file_size(sealed), kHeaderBytes + n + std::max<size_t>(1, (n + kChunk - 1) / kChunk) * kTag);
    ASSERT_TRUE(unseal_file(sealed, out, key(), progress).has_value());
    EXPECT_EQ(test::read_bytes(out), noise(n));
    ASSERT_EXPECTED(const auto opened, open(sealed));
    EXPECT_TRUE(std::ranges::equal(opened.bytes(), noise(n)));
  }
}

TEST(SealedFile, NothingOfTheFileIsInIt) {
  const std::string text(4096, 'a'), plain = test::temp_dir() + "/plain", one = test::temp_dir() + "/one",
                                     two = test::temp_dir() + "/two";
  test::write_text(plain, text);
  NoProgress progress;
  ASSERT_TRUE(seal_file(plain, one, key(), progress).has_value());
  ASSERT_TRUE(seal_file(plain, two, key(), progress).has_value());
  EXPECT_EQ(test::read_text(one).find("aaa"), std::string::npos);
  EXPECT_NE(test::read_bytes(one), test::read_bytes(two)) << "the same again is other bytes";
}

TEST(SealedFile, AWrongKeyIsRefused) {
  const std::string path = sealed_file(1000);
  expect_refused(open(path, key('x')), path, "another key");
  expect_refused(open(path, {Secret("correct horse"), true}), path, "with a key, not with a passphrase");
}

TEST(SealedFile, EveryChangedByteIsNoticed) {
  const auto bytes = test::read_bytes(sealed_file(300));
  const std::string path = test::temp_dir() + "/changed";
  for (size_t at = 0; at < bytes.size(); ++at) {
    auto changed = bytes;
    changed[at] ^= std::byte{4};
    test::write_bytes(path, changed);
    EXPECT_FALSE(open(path).has_value()) << at;
  }
}

TEST(SealedFile, CutsAdditionsAndSwappedChunksAreNoticed) {
  const auto bytes = test::read_bytes(sealed_file(3 * kChunk + 10));
  const std::string path = test::temp_dir() + "/changed";
  const auto write = [&](std::vector<std::byte> changed) { test::write_bytes(path, changed); };
  for (const size_t n : {size_t{0}, size_t{7}, size_t{8}, kHeaderBytes - 1, kHeaderBytes, kHeaderBytes + kChunk + kTag,
                         bytes.size() - 1}) {
    write({bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n)});
    expect_refused(open(path), path, "");
  }
  auto longer = bytes;
  longer.push_back(std::byte{0});
  write(longer);
  expect_refused(open(path), path, "it was cut, or something was added");
  // As long as it was: the first two chunks in the other order, the last of the full ones twice.
  const auto chunk = [&](size_t i) {
    return bytes.begin() + static_cast<std::ptrdiff_t>(kHeaderBytes + i * (kChunk + kTag));
  };
  auto swapped = bytes;
  std::copy(chunk(1), chunk(2), swapped.begin() + kHeaderBytes);
  std::copy(chunk(0), chunk(1), swapped.begin() + kHeaderBytes + kChunk + kTag);
  write(swapped);
  expect_refused(open(path), path, "chunk 1 of 4");
  auto twice = bytes;
  std::copy(chunk(1), chunk(2), twice.begin() + kHeaderBytes + 2 * (kChunk + kTag));
  write(twice);
  expect_refused(open(path), path, "chunk 3 of 4");
}

TEST(SealedFile, CutToWholeChunksWithAHeaderThatSaysSoIsRefused) {
  // An attacker without the key cannot make the header agree.
  auto bytes = test::read_bytes(sealed_file(2 * kChunk));
  bytes.resize(kHeaderBytes + kChunk + kTag);
  const uint64_t plain = kChunk;
  std::memcpy(bytes.data() + 48, &plain, sizeof plain);
  const std::string path = test::temp_dir() + "/cut";
  test::write_bytes(path, bytes);
  expect_refused(open(path), path, "its header was changed");
}

TEST(SealedFile, AFailedUnsealLeavesNothing) {
  auto bytes = test::read_bytes(sealed_file(2 * kChunk));
  bytes.back() ^= std::byte{1};
  const std::string path = test::temp_dir() + "/changed", dir = test::temp_dir();
  test::write_bytes(path, bytes);
  NoProgress progress;
  EXPECT_FALSE(unseal_file(path, dir + "/out", key(), progress).has_value());
  EXPECT_TRUE(fs::is_empty(dir));
}

TEST(SealedFile, APassphraseSeals) {
  const Key phrase = {Secret("correct horse"), true};
  const std::string path = sealed_file(1000, phrase);
  ASSERT_EXPECTED(const auto opened, open(path, phrase));
  EXPECT_TRUE(std::ranges::equal(opened.bytes(), noise(1000)));
  expect_refused(open(path, {Secret("correct horsf"), true}), path, "another key");
  expect_refused(open(path), path, "--seal-key prompt");
  // A header that asks for a terabyte of memory, or for years.
  for (const auto& [offset, value] :
       {std::pair{24, uint64_t{1} << 40}, std::pair{16, uint64_t{1} << 31}, std::pair{24, uint64_t{1}}}) {
    auto bytes = test::read_bytes(path);
    std::memcpy(bytes.data() + offset, &value, sizeof value);
    const std::string bad = test::temp_dir() + "/bad";
    test::write_bytes(bad, bytes);
    expect_refused(open(bad, phrase), bad, "values that none of ours has");
  }
}

TEST(SealedFile, OtherFilesAreToldApart) {
  const std::string path = plain_file(1000);
  NoProgress progress;
  const Status unsealed = unseal_file(path, path + ".out", key(), progress);
  ASSERT_FALSE(unsealed.has_value());
  EXPECT_NE(unsealed.error().message.find("not a sealed file"), std::string::npos);
  const Status twice = seal_file(sealed_file(10), path + ".out", key(), progress);
  ASSERT_FALSE(twice.has_value());
  EXPECT_NE(twice.error().message.find("is sealed already"), std::string::npos);
}

TEST(Key, ComesFromAFile) {
  const std::string dir = test::temp_dir();
  ASSERT_TRUE(make_key(dir + "/key").has_value());
  struct stat status = {};
  ASSERT_EQ(stat((dir + "/key").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
  const Status again = make_key(dir + "/key");
  ASSERT_FALSE(again.has_value());
  EXPECT_NE(again.error().message.find("is not overwritten"), std::string::npos);
  ASSERT_EXPECTED(const Key made, read_key(dir + "/key"));
  EXPECT_EQ(made.secret.size(), kKeyBytes);
  test::write_text(dir + "/raw", std::string(kKeyBytes, '\xfe'));
  EXPECT_TRUE(read_key(dir + "/raw").has_value());
  for (const char* bad : {"", "short", "zz", "00112233445566778899aabbccddeeff00112233445566778899aabbccddeef"}) {
    test::write_text(dir + "/bad", bad);
    const auto result = read_key(dir + "/bad");
    ASSERT_FALSE(result.has_value()) << bad;
    EXPECT_NE(result.error().message.find(dir + "/bad: not a key"), std::string::npos) << result.error().message;
  }
  EXPECT_EQ(read_key(dir + "/none").error().code, ErrorCode::kNotFound);
}

TEST(Key, ComesFromTheKeyring) {
  constexpr int kProcessKeyring = -2;
  const std::string bytes(kKeyBytes, 'q');
  if (syscall(SYS_add_key, "user", "shoehorn-test", bytes.data(), bytes.size(), kProcessKeyring) < 0)
    GTEST_SKIP() << "there is no keyring here";
  ASSERT_EXPECTED(const Key found, read_key("keyring:shoehorn-test"));
  EXPECT_EQ(std::memcmp(found.secret.data(), bytes.data(), kKeyBytes), 0);
  const auto missing = read_key("keyring:shoehorn-no-such-key");
  ASSERT_FALSE(missing.has_value());
  EXPECT_NE(missing.error().message.find("keyctl padd"), std::string::npos);
}

/// What a process at a terminal of its own answers, and what stood there.
std::pair<int, std::string> at_a_terminal(const std::string& typed, int (*todo)()) {
  int terminal = -1;
  const pid_t pid = forkpty(&terminal, nullptr, nullptr, nullptr);
  if (pid == 0) _exit(todo());
  std::string shown;
  char buffer[256];
  size_t sent = 0;
  for (ssize_t n; (n = read(terminal, buffer, sizeof buffer)) > 0;) {
    shown.append(buffer, static_cast<size_t>(n));
    // A line for every question.
    while (sent < typed.size() && static_cast<size_t>(std::ranges::count(shown, ':')) >
                                      static_cast<size_t>(std::count(
                                          typed.begin(), typed.begin() + static_cast<std::ptrdiff_t>(sent), '\n'))) {
      const size_t end = typed.find('\n', sent) + 1;
      if (write(terminal, typed.data() + sent, end - sent) < 0) break;
      sent = end;
    }
  }
  int status = 0;
  waitpid(pid, &status, 0);
  close(terminal);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, shown};
}

TEST(Key, ComesFromAPromptThatDoesNotShowIt) {
  int terminal = -1, process = -1;
  if (openpty(&terminal, &process, nullptr, nullptr, nullptr) != 0)
    GTEST_SKIP() << "no pseudo-terminals here (/dev/pts): " << std::strerror(errno);
  close(terminal);
  close(process);
  const auto [code, shown] = at_a_terminal("open sesame\n", [] {
    const auto key = read_key("prompt");
    return key && key->passphrase && key->secret.size() == 11 && std::memcmp(key->secret.data(), "open sesame", 11) == 0
               ? 0
               : 1;
  });
  EXPECT_EQ(code, 0) << shown;
  EXPECT_NE(shown.find("Passphrase:"), std::string::npos);
  EXPECT_EQ(shown.find("sesame"), std::string::npos);
  const auto differ = at_a_terminal("one\ntwo\n", [] {
    const auto key = read_key("prompt", true);
    return !key && key.error().message.find("two different") != std::string::npos ? 0 : 1;
  });
  EXPECT_EQ(differ.first, 0) << differ.second;
  const auto same = at_a_terminal("one\none\n", [] { return read_key("prompt", true) ? 0 : 1; });
  EXPECT_EQ(same.first, 0) << same.second;
}

}  // namespace
}  // namespace shoehorn::seal
