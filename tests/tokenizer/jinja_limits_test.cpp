// Templates that want to run forever, to fill the memory, to overflow the stack or to leave the sandbox.
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "support/support.h"
#include "tokenizer/chat_template.h"

namespace shoehorn::tokenizer {
namespace {

Expected<std::string> render(std::string_view source) {
  ChatInputs inputs;
  inputs.messages = ChatInputs::OrderedJson::parse(R"([{"role": "user", "content": "u"}])");
  auto chat_template = ChatTemplate::parse(source);
  if (!chat_template) return tl::unexpected<Error>(chat_template.error());
  return chat_template->render(inputs);
}

std::string repeat(std::string_view text, size_t n) {
  std::string out;
  for (size_t i = 0; i < n; ++i) out += text;
  return out;
}

void expect_error(std::string_view source, std::string_view message) {
  const auto start = std::chrono::steady_clock::now();
  const auto text = render(source);
  const std::chrono::duration<double> time = std::chrono::steady_clock::now() - start;
  const std::string_view shown = source.substr(0, 100);
  ASSERT_FALSE(text.has_value()) << shown;
  EXPECT_NE(text.error().message.find(message), std::string::npos) << shown << "\n" << text.error().message;
  EXPECT_LT(time.count(), 60) << shown;  // some 2 s where nothing else runs; sanitizers take ten times as long
}

void expect_text(std::string_view source, std::string_view expected) {
  const auto text = render(source);
  ASSERT_TRUE(text.has_value()) << source.substr(0, 100) << "\n" << text.error().message;
  EXPECT_EQ(*text, expected);
}

TEST(JinjaLimits, StopRunawayLoops) {
  expect_error("{% for i in range(10**9) %}{% endfor %}", "range(0, 1000000000, 1) has more than 100000 items");
  expect_error("{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}",
               "loops turn more than 1000000 times");
  expect_error("{% set l = [1] %}{% for x in l %}{% set _ = l.append(x) %}{% endfor %}",
               "loops turn more than 1000000 times");
  expect_error("{% for i in range(99999) %}{{ i in range(99999) }}{% endfor %}", "takes more than 10000000 steps");
  expect_error("{% macro f(n) %}{% if n < 90 %}{{ f(n + 1) }}{{ f(n + 1) }}{% endif %}{% endmacro %}{{ f(0) }}",
               "takes more than 10000000 steps");
}

TEST(JinjaLimits, StopGrowingValues) {
  expect_error("{% set ns = namespace(s='a') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
               "a string of 33554432 bytes; the limit is 16777216");
  expect_error("{{ 'a' * 10**9 }}", "a string of 1 bytes times 1000000000; the limit is 16777216 bytes");
  expect_error("{{ [1] * 10**9 }}", "a list of 1 items times 1000000000");
  expect_error(
      "{% set ns = namespace(l=[]) %}{% set big = 'a' * 9000000 %}{% for i in range(99) %}{% set ns.l = ns.l + [big ~ "
      "i] %}{% endfor %}",
      "the template's values take more than 128 MiB");
  expect_error("{{ ('a' * 16000000) | list }}", "the template's values take more than 128 MiB");
  expect_error("{{ ('a' * 16000000).split('a') }}", "split() makes more than 1000000 strings");
  expect_error("{% for i in range(99999) %}{{ 'a' * 1000 }}{% endfor %}", "the output passes 16777216 bytes");
  expect_error("{{ ('a' * 99999) | replace('a', 'b' * 99999) }}", "replace() makes more than 16777216 bytes");
  expect_error("{{ range(99999) | join('a' * 1000) }}", "join makes more than 16777216 bytes");
  expect_error("{{ ('\n' * 1000000) | indent(1000, true, true) }}", "indent makes more than 16777216 bytes");
  expect_error("{{ '%9999d' * 9999 % range(9999) }}", "a formatted string of more than 16777216 bytes");
  expect_error("{{ [1] | tojson(indent=10**12) }}", "an indent of 1000000000000");
}

TEST(JinjaLimits, SearchInLinearTime) {
  expect_text("{{ ('a' * 4000000 ~ 'b') in ('a' * 8000000) }}", "false");
  expect_text("{{ ('a' * 8000000).rsplit('a' * 4000000 ~ 'b') | length }}", "1");
  expect_text("{{ ('a' * 8000000).replace('a' * 4000000 ~ 'b', 'c') | length }}", "8000000");
}

TEST(JinjaLimits, StopDeepRecursion) {
  const std::string_view calls = "macros call one another deeper than 100";
  expect_error("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", calls);
  expect_error("{% macro f(n) %}{{ f(n)" + repeat(" ~ 1", 200) + " }}{% endmacro %}{{ f(0) }}", "nest deeper than 600");
  expect_error("{% macro f(n) %}" + repeat("{% if 1 %}", 90) + "{{ f(n) }}" + repeat("{% endif %}", 90) +
                   "{% endmacro %}{{ f(0) }}",
               "nest deeper than 600");
  expect_error("{{ ['a'] | map(*(['map'] * 1000)) }}", "filters run one another deeper than 20");
}

TEST(JinjaLimits, StopDeepNestingInTheSource) {
  const size_t n = 50000;
  const std::string_view nesting = "nest deeper than 100";
  expect_error("{{ " + repeat("(", n) + "1" + repeat(")", n) + " }}", nesting);
  expect_error("{{ " + repeat("[", n) + repeat("]", n) + " }}", nesting);
  expect_error("{{ " + repeat("{'a':", n) + "1" + repeat("}", n) + " }}", nesting);
  expect_error("{{ " + repeat("not ", n) + "1 }}", nesting);
  expect_error("{{ " + repeat("- ", n) + "1 }}", nesting);
  expect_error("{{ " + repeat("1 if 0 else ", n) + "2 }}", nesting);
  expect_error(repeat("{% if 1 %}", n), nesting);
  expect_error("{% for " + repeat("(", n) + "x" + repeat(")", n) + " in x %}", nesting);
  const std::string_view height = "more than 250 operations in a row";
  expect_error("{{ " + repeat("1 + ", n) + "1 }}", height);
  expect_error("{{ x" + repeat(" | abs", n) + " }}", height);
  expect_error("{{ x" + repeat(".a", n) + " }}", height);
  expect_error("{{ x" + repeat("()", n) + " }}", height);
  expect_error("{{ 1" + repeat(" if 1", n) + " }}", height);
  expect_text("{% if 0 %}" + repeat("{% elif 0 %}", n) + "{% else %}x{% endif %}", "x");
}

TEST(JinjaLimits, StopDeepAndCyclicValues) {
  const std::string_view deep = "lists and mappings nest deeper than 200";
  expect_error("{% set ns = namespace(l=[]) %}{% for i in range(999) %}{% set ns.l = [ns.l] %}{% endfor %}", deep);
  expect_error("{% set ns = namespace(d={}) %}{% for i in range(999) %}{% set ns.d = {'a': ns.d} %}{% endfor %}", deep);
  expect_error("{% set ns = namespace() %}{% set ns.ns = ns %}{{ ns | tojson }}", deep);
  expect_error("{% set l = [] %}{% set _ = l.append(l) %}{{ l }}", deep);
  expect_error("{% set l = [] %}{% set m = [l] %}{% set _ = l.append(m) %}{{ l == m }}", "lists nest deeper than 200");
  expect_error("{{ ('[' * 9999) | from_json }}", "from_json: JSON nests deeper than 200");
}

// Each link hangs on the one before: a destructor that followed the chain would overflow the stack.
TEST(JinjaLimits, FreeLongChains) {
  expect_text(
      "{% set ns = namespace(cur=[]) %}{% for i in range(50000) %}{% set n = [] %}{% set _ = ns.cur.append(n) %}"
      "{% set ns.cur = n %}{% endfor %}done",
      "done");
  expect_text(
      "{% set cur = namespace() %}{% for i in range(50000) %}{% set cur.next = namespace() %}{% set cur = cur.next %}"
      "{% endfor %}done",
      "done");
}

TEST(JinjaLimits, RefuseLargeTemplatesAndDeepInputs) {
  expect_error(std::string(2 << 20, 'a'), "2097152 bytes; the limit is 1048576");
  ChatInputs inputs;
  for (int i = 0; i < 300; ++i) inputs.messages = ChatInputs::OrderedJson::array({inputs.messages});
  ASSERT_EXPECTED(const ChatTemplate chat_template, ChatTemplate::parse("x"));
  const auto text = chat_template.render(inputs);
  ASSERT_FALSE(text.has_value());
  EXPECT_EQ(text.error().message, "chat template: the input 'messages': JSON nests deeper than 200");
}

TEST(JinjaLimits, RefuseNumbersBeyond64Bits) {
  expect_error("{{ 9223372036854775807 + 1 }}", "passes 64 bits");
  expect_error("{{ -(-9223372036854775807 - 1) }}", "passes 64 bits");
  expect_error("{{ (-9223372036854775807 - 1) // -1 }}", "passes 64 bits");
  expect_error("{{ 10 ** 100 }}", "passes 64 bits");
  expect_text("{{ 1 ** 9223372036854775807 }}{{ (-1) ** 9223372036854775807 }}{{ 0 ** 0 }}", "1-11");
  expect_text(
      "{% for i in range(-9223372036854775807, 9223372036854775807, 9223372036854775807) %}{{ i }};{% endfor %}",
      "-9223372036854775807;0;");
  expect_text("{{ [1, 2][::-9223372036854775807] }}{{ [1, 2][9223372036854775807:] }}{{ 'ab'[::9223372036854775807] }}",
              "[2][]a");
}

TEST(JinjaSandbox, HasNoWayOut) {
  expect_text(
      "{{ ''.__class__ is defined }}{{ messages.__class__.__mro__ is defined }}{{ ''['__class__'] is defined }}",
      "falsefalsefalse");
  expect_text("{{ '' | attr('__class__') is defined }}{{ range.__globals__ is defined }}", "falsefalse");
  expect_error("{{ ''.__class__.__mro__() }}", "cannot call '__mro__'");
  expect_error("{{ '{0.__class__}'.format('a') }}", "format(): the field '{0.__class__}'");
  expect_error("{% include '/etc/passwd' %}", "the tag 'include' is not supported");
  expect_error("{{ messages.pop() }}", "a list of the inputs cannot be changed");
  expect_error("{{ self.environment.from_string('x') }}", "cannot call 'from_string'");
}

TEST(JinjaSandbox, KeepsACallersBodyInsideItsBlock) {
  expect_error(
      "{% set ns = namespace() %}{% macro m() %}{% set ns.c = caller %}{% endmacro %}{% call m() %}x{% endcall %}{{ "
      "ns.c() }}",
      "caller() outside of its call block");
}

TEST(JinjaSandbox, SurvivesEveryTruncationOfATemplate) {
  const std::string source =
      "{%- set ns = namespace(a=[1, {'b': \"x\\u00e9\"}]) -%}{# c -#}{% macro f(a, b=2) %}{{ a ~ b }}{% endmacro %}"
      "{% for m in messages if m.role is not none %}{{ f(m['content'][::-1] | replace('u', 'v'), b=loop.index0 // 1) }}"
      "{% else %}{% raw %}{{ }}{% endraw %}{% endfor %}{% call(x) f(1) %}{{ x }}{% endcall %}{% filter upper %}z{% "
      "endfilter %}é";
  for (size_t n = 0; n < source.size(); ++n) {
    const std::string prefix = source.substr(0, n);
    const auto text = render(prefix);
    EXPECT_TRUE(text || text.error().message.starts_with("chat template: line ")) << text.error().message;
  }
  expect_text(source,
              "v01"
              "2Zé");
}

}  // namespace
}  // namespace shoehorn::tokenizer
