#include "compress/peers.h"

#ifdef SHOEHORN_GLOO
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif
#endif

#include <atomic>
#include <charconv>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <thread>

namespace shoehorn::compress {

#ifdef SHOEHORN_GLOO
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds kBeat{3}, kSilence{25}, kJoinTimeout{300};
/// Collective calls wait for the slowest process, which may compute for hours; who is alive is told by the beats.
constexpr std::chrono::hours kCallTimeout{24 * 30};

Expected<int> number_from(const char* variable, int low, int high) {
  const char* text = std::getenv(variable);
  if (text == nullptr) return fail(ErrorCode::kInvalid, "WORLD_SIZE is set, but {} is not", variable);
  int value = 0;
  const char* end = text + std::strlen(text);
  const auto [stop, error] = std::from_chars(text, end, value);
  if (error != std::errc() || stop != end || value < low || value > high) {
    return fail(ErrorCode::kInvalid, "{} is \"{}\", expected {} to {}", variable, text, low, high);
  }
  return value;
}

/// Tells the others every few seconds that this process is there, and listens for them.
class Heartbeat {
 public:
  Heartbeat(c10::intrusive_ptr<c10d::Store> store, int rank, int size) : store_(std::move(store)), rank_(rank), size_(size) {
    thread_ = std::thread([this] { run(); });
  }
  ~Heartbeat() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

  /// A process that was not heard of for too long; -1: all are there.
  int silent() const { return silent_.load(); }

 private:
  void run() {
    std::vector<std::string> heard(static_cast<size_t>(size_));
    std::vector<Clock::time_point> when(static_cast<size_t>(size_), Clock::now());
    for (uint64_t beat = 1;; ++beat) {
      try {
        const std::string text = std::to_string(beat);
        store_->set("alive/" + std::to_string(rank_), std::vector<uint8_t>(text.begin(), text.end()));
        for (int other = 0; other < size_; ++other) {
          if (other == rank_) continue;
          const auto i = static_cast<size_t>(other);
          const std::string key = "alive/" + std::to_string(other);
          if (store_->check({key})) {
            const auto value = store_->get(key);
            if (std::string now(value.begin(), value.end()); now != heard[i]) {
              heard[i] = std::move(now);
              when[i] = Clock::now();
            }
          }
          if (Clock::now() - when[i] > kSilence) silent_.store(other);
        }
      } catch (const std::exception&) {
        silent_.store(0);  // the store lives in the first process
        return;
      }
      std::unique_lock lock(mutex_);
      if (wake_.wait_for(lock, kBeat, [this] { return stop_; })) return;
    }
  }

  c10::intrusive_ptr<c10d::Store> store_;
  int rank_, size_;
  std::atomic<int> silent_{-1};
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace

struct Peers::Group {
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::ProcessGroup> calls;
  std::unique_ptr<Heartbeat> heartbeat;

  /// Waits for a collective call, for as long as all others are alive.
  template <class Work>
  Status finish(const Work& work) {
    for (auto pause = std::chrono::microseconds(50); !work->isCompleted(); pause = std::min(pause * 2, std::chrono::microseconds(5000))) {
      if (const int other = heartbeat->silent(); other >= 0) {
        calls.release();  // its threads wait for a process that will not come: they are left to the end of this one
        return fail(ErrorCode::kIo, "process {} has not been heard of for {} s; start all again with --resume", other, kSilence.count());
      }
      std::this_thread::sleep_for(pause);
    }
    if (!work->isSuccess()) {
      std::string reason = "the connection is gone";
      try {
        std::rethrow_exception(work->exception());
      } catch (const std::exception& error) {
        reason = error.what();
      }
      calls.release();
      return fail(ErrorCode::kIo, "another process has died ({}); start all again with --resume", reason.substr(0, reason.find('\n')));
    }
    return {};
  }
};

Expected<Peers> Peers::join(at::Device device) {
  Peers peers;
  if (std::getenv("WORLD_SIZE") == nullptr) return peers;
  SHOEHORN_TRY(peers.size_, number_from("WORLD_SIZE", 1, 4096));
  if (peers.size_ == 1) return peers;
  SHOEHORN_TRY(peers.rank_, number_from("RANK", 0, peers.size_ - 1));
  SHOEHORN_TRY(const int port, number_from("MASTER_PORT", 1, 65535));
  const char* address = std::getenv("MASTER_ADDR");
  if (address == nullptr) return fail(ErrorCode::kInvalid, "WORLD_SIZE is set, but MASTER_ADDR is not");
  // Gloo writes to sockets without MSG_NOSIGNAL: a peer's death must come back as an error.
  std::signal(SIGPIPE, SIG_IGN);
  try {
    peers.group_ = std::make_unique<Group>();
    const auto open = [&](bool server) {
      c10d::TCPStoreOptions options;
      options.port = static_cast<uint16_t>(port);
      options.isServer = server;
      options.waitWorkers = false;
      options.timeout = kJoinTimeout;
      return c10::make_intrusive<c10d::TCPStore>(address, options);
    };
    peers.group_->store = open(peers.rank_ == 0);
    if (device.is_cuda()) {
#ifdef USE_C10D_NCCL
      peers.group_->calls = c10::make_intrusive<c10d::ProcessGroupNCCL>(peers.group_->store, peers.rank_, peers.size_);
#else
      return fail(ErrorCode::kUnsupported, "several processes on CUDA need a libtorch with NCCL; this one has none");
#endif
    } else {
      auto options = c10d::ProcessGroupGloo::Options::create(kCallTimeout);
      options->devices.push_back(std::string(address) == "127.0.0.1" || std::string(address) == "localhost"
                                     ? c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1")
                                     : c10d::ProcessGroupGloo::createDefaultDevice());
      peers.group_->calls = c10::make_intrusive<c10d::ProcessGroupGloo>(c10::make_intrusive<c10d::PrefixStore>("calls", peers.group_->store),
                                                                        peers.rank_, peers.size_, options);
    }
    peers.group_->heartbeat = std::make_unique<Heartbeat>(open(false), peers.rank_, peers.size_);
  } catch (const std::exception& error) {
    const std::string reason = error.what();
    return fail(ErrorCode::kIo, "cannot join {} processes at {}:{}: {}", peers.size_, address, port, reason.substr(0, reason.find('\n')));
  }
  return peers;
}

Status Peers::sum(std::vector<at::Tensor> tensors) const {
  if (group_ == nullptr) return {};
  for (at::Tensor& tensor : tensors) {
    if (group_->calls == nullptr) return fail(ErrorCode::kIo, "another process has died");
    std::vector<at::Tensor> one = {tensor.detach()};
    SHOEHORN_RETURN_IF_ERROR(group_->finish(group_->calls->allreduce(one)));
  }
  return {};
}

Status Peers::broadcast(std::vector<std::byte>& bytes) const {
  if (group_ == nullptr) return {};
  if (group_->calls == nullptr) return fail(ErrorCode::kIo, "another process has died");
  std::vector<at::Tensor> size = {at::full({1}, first() ? static_cast<int64_t>(bytes.size()) : 0, at::kLong)};
  SHOEHORN_RETURN_IF_ERROR(group_->finish(group_->calls->broadcast(size)));
  bytes.resize(static_cast<size_t>(size[0].item<int64_t>()));
  if (bytes.empty()) return {};
  std::vector<at::Tensor> content = {at::from_blob(bytes.data(), {static_cast<int64_t>(bytes.size())}, at::kByte)};
  return group_->finish(group_->calls->broadcast(content));
}

#else

struct Peers::Group {};

Expected<Peers> Peers::join(at::Device) {
  if (std::getenv("WORLD_SIZE") != nullptr && std::string_view(std::getenv("WORLD_SIZE")) != "1") {
    return fail(ErrorCode::kUnsupported, "WORLD_SIZE is set, but this program was built without Gloo (libgloo-dev)");
  }
  return Peers();
}

Status Peers::sum(std::vector<at::Tensor>) const { return {}; }
Status Peers::broadcast(std::vector<std::byte>&) const { return {}; }

#endif

Peers::Peers() = default;
Peers::Peers(Peers&&) noexcept = default;
Peers& Peers::operator=(Peers&&) noexcept = default;
Peers::~Peers() = default;

Status Peers::sum(double& value) const {
  const at::Tensor tensor = at::full({1}, value, at::kDouble);
  SHOEHORN_RETURN_IF_ERROR(sum(std::vector<at::Tensor>{tensor}));
  value = tensor.item<double>();
  return {};
}

Status Peers::sum(int64_t& value) const {
  const at::Tensor tensor = at::full({1}, value, at::kLong);
  SHOEHORN_RETURN_IF_ERROR(sum(std::vector<at::Tensor>{tensor}));
  value = tensor.item<int64_t>();
  return {};
}

}  // namespace shoehorn::compress
