#include "io/pickle.h"

#include <ctime>
#include <filesystem>

#include "io/pickle_json.h"
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
  const std::string trace = test::temp_dir() + "/pickle-was-here";
  for (const auto& [module, name] : globals) {
    const std::string full = fmt::format("{}.{}", module, name);
    const std::string call = PickleWriter().global(module, name).op("(").text("touch " + trace).op("tR").done();
    ASSERT_EXPECTED(Pickle pickle, parse(std::as_bytes(std::span(call))));
    EXPECT_EQ(pickle[pickle.root].kind, Kind::kRecord);
    EXPECT_EQ(describe(pickle.values, pickle.root), "a call of " + full + ", not made");
    const std::string object = PickleWriter().global(module, name).op(")\x81}b").done();
    ASSERT_EXPECTED(pickle, parse(std::as_bytes(std::span(object))));
    EXPECT_EQ(describe(pickle.values, pickle.root), "an object of " + full);
    const std::string reference = PickleWriter().global(module, name).done();
    ASSERT_EXPECTED(pickle, parse(std::as_bytes(std::span(reference))));
    EXPECT_EQ(describe(pickle.values, pickle.root), "a reference to " + full + ", not imported");
    // It is no part of a tensor.
    PickleWriter storage;
    storage.op("(").text("storage").global(module, name).text("0").text("cpu").number(3).op("tQ");
    EXPECT_FAILS(parse_exact(storage.done()), kInvalid, full + " is no storage class");
    PickleWriter parameter;
    parameter.global("torch._utils", "_rebuild_parameter").global(module, name).op(")R\x85R");
    EXPECT_FAILS(parse_exact(parameter.done()), kInvalid, "a call of " + full + ", not made");
    PickleWriter tensor;
    tensor.global("torch._utils", "_rebuild_tensor_v2").op("(").global(module, name).op(")R");
    tensor.number(0).numbers({1}).numbers({1}).op("tR");
    EXPECT_FAILS(parse_exact(tensor.done()), kInvalid, "a tensor with malformed arguments");
  }
  EXPECT_FALSE(std::filesystem::exists(trace));
  const std::string escapes = PickleWriter().global("os\x1b", "a\rb").op(")R").done();
  ASSERT_EXPECTED(const Pickle pickle, parse(std::as_bytes(std::span(escapes))));
  EXPECT_EQ(describe(pickle.values, pickle.root), R"(a call of os\x1b.a\x0db, not made)");
}

TEST(Pickle, WhatACallWouldReturnCanBeCalled) {
  const std::string bytes = PickleWriter().global("builtins", "getattr").op(")R)R)R)\x81").done();
  ASSERT_EXPECTED(const Pickle pickle, parse(std::as_bytes(std::span(bytes))));
  EXPECT_EQ(describe(pickle.values, pickle.root), "an object of builtins.getattr");
}

TEST(Pickle, ObjectsKeepTheirAttributes) {
  PickleWriter p;
  p.global("transformers", "LlamaConfig").op(")\x81}(").text("eps").real(1e-5).text("size").number(7).op("ub");
  const std::string with_dict = p.done();
  ASSERT_EXPECTED(Pickle pickle, parse(std::as_bytes(std::span(with_dict))));
  EXPECT_EQ(attribute_dicts(pickle, pickle.root).size(), 1u);
  ASSERT_EXPECTED(Json json, to_json(pickle, pickle.root));
  EXPECT_EQ(json, (Json{{"eps", 1e-5}, {"size", 7}}));

  PickleWriter slots;
  slots.global("m", "C").op(")\x81}").text("a").number(1).op("s}").text("b").number(2).op("s\x86").op("b");
  const std::string with_slots = slots.done();
  ASSERT_EXPECTED(pickle, parse(std::as_bytes(std::span(with_slots))));
  ASSERT_EXPECTED(json, to_json(pickle, pickle.root));
  EXPECT_EQ(json, (Json{{"a", 1}, {"b", 2}}));
}

TEST(Pickle, PlainValuesBecomeJson) {
  PickleWriter p;
  p.op("}(").text("none").op("N").text("yes").op("\x88").text("theta").real(-2.5).text("names").op("](");
  p.text("\xff!")
      .text("\xc3\xa9")
      .op("e")
      .text("pair")
      .op("K\1K\2\x86")
      .number(3)
      .text("three")
      .op("\x88")
      .text("left out");
  p.text("dtype").global("torch", "bfloat16").text("set").global("__builtin__", "set").op("](K\5e\x85R");
  p.text("call").global("os", "getcwd").op(")R").text("big").op("\x8a\x09").op(std::string(9, '\1')).op("u");
  const std::string bytes = p.done();
  ASSERT_EXPECTED(const Pickle pickle, parse(std::as_bytes(std::span(bytes))));
  ASSERT_EXPECTED(const Json json, to_json(pickle, pickle.root));
  EXPECT_EQ(json, (Json{{"none", nullptr},
                        {"yes", true},
                        {"theta", -2.5},
                        {"names", {"\xef\xbf\xbd!", "\xc3\xa9"}},
                        {"pair", {1, 2}},
                        {"3", "three"},
                        {"dtype", "bfloat16"},
                        {"set", {5}},
                        {"call", nullptr},
                        {"big", nullptr}}));
}

TEST(Pickle, JsonOfSharedOrCyclicValuesIsBounded) {
  using namespace std::string_literals;
  const auto json_of = [](const std::string& bytes) -> Expected<Json> {
    const auto pickle = parse(std::as_bytes(std::span(bytes)));
    if (!pickle) return tl::unexpected<Error>(pickle.error());
    return to_json(*pickle, pickle->root);
  };
  EXPECT_FAILS(json_of("]q\0h\0a."s), kInvalid, "nested deeper than 32");
  std::string doubling = "]q\0"s;
  for (int i = 0; i < 30; ++i) doubling += "](h\0h\0eq\0"s;
  EXPECT_FAILS(json_of(doubling + "."), kTooLarge, "more than 100000 values");
  PickleWriter text;
  text.op("](").text(std::string(1 << 20, 'x')).op("q\1");
  for (int i = 0; i < 100; ++i) text.op("h\1");
  EXPECT_FAILS(json_of(text.op("e").done()), kTooLarge, "bytes of text");
}

TEST(Pickle, ProtocolsUpToFiveAreRead) {
  using namespace std::string_literals;
  PickleWriter p;
  p.out = "\x80\x04\x95"s + raw(uint64_t{999});
  const auto text = [&](std::string_view s) { p.op("\x8c").op(raw(static_cast<uint8_t>(s.size()))).op(s).op("\x94"); };
  text("module");
  text("Class");
  p.op("\x93\x94)}\x92\x94");  // STACK_GLOBAL, NEWOBJ_EX
  p.op("}\x94(");
  text("set");
  p.op("\x8f\x94(K\1K\2\x90");
  text("frozen");
  p.op("(K\3\x91\x94");
  p.op("\x8d").op(raw(uint64_t{4})).op("long").op("h\x00"s);
  text("bytes");
  p.op("C\x02xyB").op(raw(uint32_t{1})).op("z0\x8e").op(raw(uint64_t{1})).op("z0\x96").op(raw(uint64_t{1})).op("z0ub");
  const std::string bytes = p.done();
  ASSERT_EXPECTED(const Pickle pickle, parse(std::as_bytes(std::span(bytes))));
  EXPECT_EQ(describe(pickle.values, pickle.root), "an object of module.Class");
  ASSERT_EXPECTED(const Json json, to_json(pickle, pickle.root));
  EXPECT_EQ(json, (Json{{"set", {1, 2}}, {"frozen", {3}}, {"long", "module"}, {"bytes", nullptr}}));
  EXPECT_FAILS(parse_exact("\x80\x06}."), kUnsupported, "pickle protocol 6");
}

TEST(Pickle, OtherOpcodesAreRefused) {
  // INST, OBJ, extension registry, text forms, persistent ids as text, buffers outside the pickle.
  for (const char opcode :
       {'i', 'o', '\x82', '\x83', '\x84', 'I', 'S', 'V', 'F', 'P', 'L', 'p', 'g', '\x97', '\x98', '\xff'}) {
    EXPECT_FAILS(parse_exact(PickleWriter().op("((").op(std::string_view(&opcode, 1)).op("os\nsystem\n").done()),
                 kUnsupported, "no place in a state dict");
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
                           "\x93.",
                           "NN\x93.",
                           "X\1",
                           "\x94.",
                           "\x95.",
                           "\x8c\xff.",
                           "\x8d\xff\xff\xff\xff\xff\xff\xff\xff.",
                           "\x8e\xff\xff\xff\xff\xff\xff\xff\xff.",
                           "\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
                           "B\xff\xff\xff\xff.",
                           "C\xff.",
                           "\x90.",
                           "\x8f(",
                           "](N\x90.",
                           "\x8f(Ne.",
                           "\x91.",
                           "\x92.",
                           "N)}\x92.",
                           "ca\nb\n}\x92.",
                           "ca\nb\nNR.",
                           "ca\nb\n}\x81.",
                           "ca\nb\n}b.",
                           "ca\nb\n)Rb.",
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
  const std::clock_t start = std::clock();
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

  // Objects in the arguments of objects, and calls of what calls would return.
  std::string objects = "ca\nb\nq";
  objects += '\0';
  for (int i = 0; i < 300'000; ++i) objects += std::string("h\0", 2);
  objects += ")\x81";
  for (int i = 0; i < 300'000; ++i) objects += "\x85\x81";
  EXPECT_TRUE(parse_exact(objects + ".").has_value());
  std::string calls = "ca\nb\n";
  for (int i = 0; i < 300'000; ++i) calls += ")R";
  EXPECT_TRUE(parse_exact(calls + ".").has_value());

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
  EXPECT_LT(std::clock() - start, 30 * CLOCKS_PER_SEC);
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
      "(.)]}lt01aeusdRQbcNXKMJUTGhqjrBC\x80\x81\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8f\x90\x91\x92\x93\x94\x95\n\x01\x02\x03\0\0\0"s;
  for (int i = 0; i < 100'000; ++i) {
    std::string bytes;
    for (size_t n = rng() % 60; n-- > 0;) {
      bytes += alphabet[rng() % alphabet.size()];
      if (rng() % 16 == 0) bytes += "ccollections\nOrderedDict\n)R";
      if (rng() % 16 == 0) bytes += "ctorch._utils\n_rebuild_tensor_v2\n";
      if (rng() % 16 == 0) bytes += "cposix\nsystem\n)R";
      if (rng() % 16 == 0) bytes += "cm\nC\n)\x81}b";
      if (rng() % 16 == 0) bytes += "(X\7\0\0\0storagectorch\nFloatStorage\nU\0010U\1cK\4tQ"s;
    }
    bytes += '.';
    const test::ExactBytes exact(bytes);
    if (const auto pickle = parse(exact.span())) {
      for (Ref ref = 0; ref < pickle->values.size(); ++ref) {
        (void)describe(pickle->values, ref);
        (void)to_json(*pickle, ref);
      }
    }
  }
}

}  // namespace
}  // namespace shoehorn::io::pickle
