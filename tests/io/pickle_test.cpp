#include "io/pickle.h"

#include <chrono>

#include "io/pytorch_bin.h"
#include "torch_fixture.h"

namespace shoehorn::io::pickle {
namespace {

using test::PickleWriter;
using test::raw;

Expected<Pickle> parse_exact(const std::string& bytes) {
  // The result points into the bytes, but only its kinds and sizes are looked at here.
  const test::ExactBytes exact(bytes);
  return parse(exact.span());
}

TEST(Pickle, NumbersAndTextsAreRead) {
  const std::string bytes = PickleWriter()
                                .op("(")
                                .number(7)
                                .number(300)
                                .number(-1)
                                .number(INT64_MIN)
                                .op(std::string_view("\x8a\x00", 2))
                                .op("\x8a\x01\xff")
                                .op("M\x01\x02")
                                .text("abc")
                                .op("U\x01z")
                                .op("\x88")
                                .op("Nt")
                                .done();
  ASSERT_EXPECTED(const Pickle pickle, parse(std::as_bytes(std::span(bytes))));
  const auto& items = pickle[pickle.root].items;
  const int64_t expected[] = {7, 300, -1, INT64_MIN, 0, -1, 0x201};
  ASSERT_EQ(items.size(), 11u);
  for (size_t i = 0; i < 7; ++i) EXPECT_EQ(pickle[items[i]].number, expected[i]);
  EXPECT_EQ(pickle[items[7]].text, "abc");
  EXPECT_EQ(pickle[items[8]].text, "z");
  EXPECT_EQ(pickle[items[9]].kind, Kind::kBool);
  EXPECT_EQ(pickle[items[10]].kind, Kind::kNone);
}

TEST(Pickle, CodeIsNeverImportedOrCalled) {
  const std::pair<const char*, const char*> globals[] = {{"os", "system"},         {"posix", "system"},
                                                         {"builtins", "eval"},     {"__builtin__", "exec"},
                                                         {"builtins", "getattr"},  {"subprocess", "Popen"},
                                                         {"torch", "load"},        {"torch.hub", "load"},
                                                         {"collections", "deque"}, {"torch._utils", "_rebuild_qtensor"},
                                                         {"runpy", "run_path"},    {"", ""}};
  for (const auto& [module, name] : globals) {
    const std::string call =
        PickleWriter().global(module, name).op("(").text("touch /tmp/pickle-was-here").op("tR").done();
    EXPECT_FAILS(parse_exact(call), kUnsupported, fmt::format("calls {}.{}: refused", module, name));
    // A mere reference is refused as well.
    EXPECT_FAILS(parse_exact(PickleWriter().global(module, name).done()), kUnsupported, "refused");
  }
  EXPECT_FAILS(parse_exact(PickleWriter().global("os\x1b", "a\rb").done()), kUnsupported, R"(os\x1b.a\x0db: refused)");
}

TEST(Pickle, WholeModelsAreRefusedWithTheWayOut) {
  for (const char* module : {"transformers.models.llama.modeling_llama", "torch.nn.modules.linear", "__main__"}) {
    EXPECT_FAILS(parse_exact(PickleWriter().global(module, "LlamaForCausalLM").op(")\x81").done()), kUnsupported,
                 "save model.state_dict() instead");
  }
}

TEST(Pickle, OtherOpcodesAreRefused) {
  // INST, OBJ, GLOBAL through the stack, extension registry, text forms, persistent ids as text, protocol 4's opcodes.
  for (const char opcode : {'i', 'o', '\x93', '\x82', '\x83', '\x84', 'I', 'S', 'V', 'F', 'P', '\x8c', '\x94', '\x95',
                            '\x92', '\x8e', '\xff'}) {
    EXPECT_FAILS(parse_exact(PickleWriter().op("((").op(std::string_view(&opcode, 1)).op("os\nsystem\n").done()),
                 kUnsupported, "no place in a state dict");
  }
  for (const char version : {'\x03', '\x04', '\x05'}) {
    EXPECT_FAILS(parse_exact(std::string("\x80") + version + "}."), kUnsupported, "pickle protocol");
  }
}

TEST(Pickle, MalformedStreamsAreErrors) {
  const char* streams[] = {"",
                           ".",
                           "}",
                           "}s.",
                           "}Ns.",
                           "0.",
                           "t.",
                           "e.",
                           "u.",
                           "]e.",
                           "]u.",
                           "}(Nu.",
                           "}(NNe.",
                           "}NNa.",
                           "NNNs.",
                           "NR.",
                           "N)R.",
                           "NNR.",
                           "Q.",
                           "NQ.",
                           ")Q.",
                           "h\x05.",
                           "j",
                           "q",
                           "q\x01.",
                           "\x85.",
                           "(\x86.",
                           "(N\x86.",
                           "\x81.",
                           "N)\x81.",
                           "b.",
                           "NNb.",
                           "X\xff\xff\xff\xff.",
                           "T\xff\xff\xff\xff.",
                           "\x8b\xff\xff\xff\xff.",
                           "\x8b\xff\xff\xff\x7f.",
                           "\x8a\xff.",
                           "G1.",
                           "cos",
                           "cos\nsystem",
                           "1.",
                           "2.",
                           "d.",
                           "(Nd.",
                           "((((",
                           "(."};
  for (const char* stream : streams) EXPECT_FALSE(parse_exact(stream).has_value()) << stream;
}

TEST(Pickle, StorageIdsAndTensorArgumentsAreChecked) {
  const auto storage = [](auto&& change) {
    PickleWriter p;
    p.op("(");
    change(p);
    return parse_exact(p.op("tQ").done());
  };
  EXPECT_TRUE(storage([](PickleWriter& p) {
                p.text("storage").global("torch", "FloatStorage").text("0").text("cpu").number(3);
              }).has_value());
  EXPECT_FALSE(storage([](PickleWriter& p) {
                 p.text("module").global("torch", "FloatStorage").text("0").text("cpu").number(3);
               }).has_value());
  EXPECT_FALSE(storage([](PickleWriter& p) {
                 p.text("storage").global("torch", "Size").text("0").text("cpu").number(3);
               }).has_value());
  EXPECT_FALSE(storage([](PickleWriter& p) {
                 p.text("storage").global("torch", "FloatStorage").text("0").text("cpu").number(-3);
               }).has_value());
  EXPECT_FALSE(storage([](PickleWriter& p) { p.text("storage").global("torch", "FloatStorage"); }).has_value());
  const auto call = [](const char* name) {
    return PickleWriter().global("torch._utils", name).op("(").number(1).number(2).op("tR").done();
  };
  EXPECT_FALSE(parse_exact(call("_rebuild_tensor_v2")).has_value());
  EXPECT_FALSE(parse_exact(call("_rebuild_tensor_v3")).has_value());
  EXPECT_FALSE(parse_exact(call("_rebuild_parameter")).has_value());
  EXPECT_FALSE(parse_exact(PickleWriter().global("torch._utils", "_rebuild_parameter").op(")R").done()).has_value());
  EXPECT_FALSE(parse_exact(PickleWriter().global("torch", "FloatStorage").op(")R").done()).has_value());
  EXPECT_FALSE(parse_exact(PickleWriter().global("torch", "FloatStorage").op(")\x81").done()).has_value());
}

// Each of these must end quickly, in an error or in a small object graph.
TEST(Pickle, BombsEndQuickly) {
  const auto start = std::chrono::steady_clock::now();
  const std::string depth = std::string(2'000'000, ']') + std::string(1'999'999, 'a');
  EXPECT_FAILS(parse_exact(depth + "."), kTooLarge, "stack deeper than");
  EXPECT_FAILS(parse_exact(std::string(100'000, '(') + "."), kTooLarge, "nested deeper than 1000");
  std::string chain = "]";
  for (int i = 0; i < 300'000; ++i) chain += "]a";  // APPEND leaves the outer list on the stack
  EXPECT_TRUE(parse_exact(chain + ".").has_value());
  std::string nested = ")";
  for (int i = 0; i < 300'000; ++i) nested += "\x85";  // a tuple in a tuple in a tuple
  EXPECT_TRUE(parse_exact(nested + ".").has_value());

  // Each list holds the one before twice: 2^200 leaves for who walks it naively.
  std::string doubling = "](NNeq";
  doubling += '\0';
  for (int i = 0; i < 200; ++i) doubling += std::string("](h\0h\0eq\0", 9);
  EXPECT_TRUE(parse_exact(doubling + ".").has_value());

  std::string values = "]q";
  values += '\0';
  for (int i = 0; i < 6'000'000; ++i) values += "N0";
  EXPECT_FAILS(parse_exact(values + "."), kTooLarge, "values in the pickle");

  std::string memo = "N";
  for (uint32_t i = 0; i < 5'000'000; ++i) memo += "r" + raw(i * 7);
  EXPECT_FAILS(parse_exact(memo + "."), kTooLarge, "memo entries");

  // One list of 50,000 pairs, made into a dict again and again.
  PickleWriter p;
  p.op("](");
  for (int i = 0; i < 50'000; ++i) p.op("NN\x86");
  p.op("e\x85q\x01"
       "0")
      .global("collections", "OrderedDict")
      .op("q\x02"
          "0");
  for (int i = 0; i < 100'000; ++i) p.op("h\x02h\x01R0");
  EXPECT_FAILS(parse_exact(p.op("}").done()), kTooLarge, "dict items");

  EXPECT_FAILS(parse_exact(PickleWriter().op("\x8b").op(raw(int32_t{0x7fffffff})).done()), kInvalid, "truncated");
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(30));
}

TEST(Pickle, TooManyBytesAreRefused) {
  const std::vector<std::byte> bytes((size_t{64} << 20) + 1);
  EXPECT_FAILS(parse(bytes), kTooLarge, "the limit is 67108864");
}

TEST(Pickle, SelfReferencesAreReadAndWalkedOnce) {
  // d = {}; d["self"] = d; d["w"] = tensor
  PickleWriter p;
  p.op("}q\x01(").text("self").op("h\x01").text("w").tensor("FloatStorage", "0", 1, 0, {1}, {1}).op("u");
  EXPECT_TRUE(parse_exact(p.done()).has_value());
  const std::string bytes = test::torch_file(p.done(), {{"0", raw(1.0f)}});
  ASSERT_EXPECTED(const auto file, read_pytorch_bin(std::as_bytes(std::span(bytes)), "f"));
  EXPECT_EQ(file.tensors.size(), 1u);
}

TEST(Pickle, RandomOpcodesNeverCrash) {
  std::mt19937 rng(4);
  using namespace std::string_literals;
  const std::string alphabet =
      "(.)]}lt01aeusdRQbcNXKMJUTGhqjr\x80\x81\x85\x86\x87\x88\x89\x8a\x8b\n\x01\x02\x03\0\0\0"s;
  for (int i = 0; i < 100'000; ++i) {
    std::string bytes;
    for (size_t n = rng() % 60; n-- > 0;) {
      bytes += alphabet[rng() % alphabet.size()];
      if (rng() % 16 == 0) bytes += "ccollections\nOrderedDict\n)R";
      if (rng() % 16 == 0) bytes += "ctorch._utils\n_rebuild_tensor_v2\n";
      if (rng() % 16 == 0) bytes += "(X\7\0\0\0storagectorch\nFloatStorage\nU\0010U\1cK\4tQ"s;
    }
    (void)parse_exact(bytes + ".");
  }
}

}  // namespace
}  // namespace shoehorn::io::pickle
