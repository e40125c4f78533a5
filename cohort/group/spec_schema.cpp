// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/spec_schema.hpp>

#include <nlohmann/json.hpp>

#include <string_view>
#include <vector>

namespace cohort::group {
namespace {

using json = nlohmann::ordered_json;

json described(json schema, std::string_view text) {
    schema["description"] = text;
    return schema;
}
json string(std::string_view text) { return {{"type", "string"}, {"description", text}}; }
json boolean(std::string_view text) { return {{"type", "boolean"}, {"description", text}}; }
json whole(std::int64_t low, std::int64_t high, std::string_view text) { return {{"type", "integer"}, {"minimum", low}, {"maximum", high}, {"description", text}}; }
json name(std::string_view text) { return {{"type", "string"}, {"pattern", "^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$"}, {"description", text}}; }
json word(const std::vector<std::string>& words, std::string_view text) { return {{"enum", words}, {"description", text}}; }
json strings(std::string_view text) { return {{"type", "array"}, {"items", {{"type", "string"}}}, {"description", text}}; }
json any(std::vector<json> forms, std::string_view text) { return {{"anyOf", std::move(forms)}, {"description", text}}; }
json bytes(std::string_view text) { return any({{{"type", "integer"}, {"minimum", 1}}, {{"type", "string"}, {"pattern", "^[0-9]+ ?([KMGTkmgt]?i?B?)$"}}}, text); }
json duration(std::string_view text) { return {{"type", "string"}, {"pattern", "^[0-9]+ ?(ns|us|ms|s|min|h)$"}, {"description", text}}; }
json policy(std::string_view text) { return word({"require", "prefer", "emulate"}, text); }
json command(std::string_view text) { return any({{{"type", "string"}}, {{"type", "array"}, {"items", {{"type", "string"}}}, {"minItems", 1}}}, text); }
json table(json keys, const std::vector<std::string>& required = {}) {
    json out{{"type", "object"}, {"additionalProperties", false}, {"properties", std::move(keys)}};
    if (!required.empty()) out["required"] = required;
    return out;
}
json tables(json of, std::string_view text) { return {{"type", "array"}, {"items", std::move(of)}, {"description", text}}; }

json cpus() {
    const json list{{"type", "string"}};
    const json part = table({{"part", {{"type", "string"}, {"pattern", "^[0-9]+/[0-9]+$"}, {"description", "\"1/2\": the first of two equal runs of whole cores"}}}}, {"part"});
    const json count = table({{"count", whole(1, 8192, "so many CPUs that nobody else has")},
                              {"whole_cores", boolean("every CPU of its cores")},
                              {"same_node", boolean("all on one node")},
                              {"apart_from", any({{{"type", "string"}}, {{"type", "array"}, {"items", {{"type", "string"}}}}}, "cohorts beside it with which it shares no core")}},
                             {"count"});
    return any({list, part, count}, "\"0-3,8\" (N: the last CPU), a part, or a wish; without it: all usable");
}

json cookie() {
    const json one = name("\"own\", \"none\", or the name of one that all who write it have");
    const json same = table({{"same_as", string("the cohort whose cookie it has, too")}}, {"same_as"});
    return any({one, same, {{"type", "array"}, {"minItems", 1}, {"items", {{"anyOf", {one, same}}}}}}, "who may run beside it on a core: cohorts whose cookies have the same parts, and nobody else");
}

json pool() {
    const json in_full = table({{"size", bytes("of addresses: 2M to 128G")},
                                {"huge", word({"never", "prefer", "require"}, "huge pages")},
                                {"members", word({"rw", "ro"}, "what exec jobs may do")},
                                {"limit", bytes("of memory")}},
                               {"size"});
    const json others = table({{"of", string("the cohort whose pool it is in instead")}, {"members", word({"rw", "ro"}, "what exec jobs may do")}}, {"of"});
    return any({bytes("of addresses"), in_full, others}, "memory that its processes share by raw pointer");
}

json cohort() {
    return table({{"name", name("of the cohort")},
                  {"inside", string("the cohort of whose CPUs it has some, and below whose set its own is")},
                  {"cpus", cpus()},
                  {"mems", string("memory nodes, \"0-1\"")},
                  {"partition", word({"member", "root", "isolated"}, "of its cpuset")},
                  {"cpuset", policy("by what its CPUs and nodes are kept")},
                  {"cookie", cookie()},
                  {"coresched", policy("by what its cookie is kept")},
                  {"memory", bytes("that blocks of its pipes take together")},
                  {"pool", pool()}},
                 {"name"});
}

json job() {
    const json restart = any({word({"never", "on-failure", "always"}, "when it has ended"), table({{"when", word({"never", "on-failure", "always"}, "an instance that has ended is started again")},
                                                                                                  {"max", whole(1, 1'000'000, "times, of each instance; without it: as often as it takes")},
                                                                                                  {"backoff", duration("before the first time; then twice as long each time")},
                                                                                                  {"longest", duration("back-off")}},
                                                                                                 {"when"})},
                             "exec: whether a command that has ended is started again");
    return table({{"name", name("of the job")},
                  {"cohort", string("in which it runs")},
                  {"kind", word({"pipe", "exec", "flow"}, "a pipe of blocks in order, a command, or three processes joined by the pool")},
                  {"after", strings("jobs that must have succeeded before")},
                  {"verify", command("says by exit status 0 that the result is right; sees $INPUT and $OUTPUT")},
                  {"command", command("what runs; of pipes and flows: what each block goes through")},
                  {"input", any({{{"type", "string"}}, table({{"command", command("makes the bytes")}}, {"command"})}, "pipe, flow: a file, or a command")},
                  {"output", any({{{"type", "string"}}, table({{"command", command("takes the bytes; flows only")}}, {"command"})}, "pipe, flow: a file, or a command")},
                  {"codec", word({"zstd", "gzip", "lz4"}, "pipe, flow")},
                  {"level", whole(-7, 22, "of the codec")},
                  {"decompress", boolean("pipe")},
                  {"plugin", string("flow: a library whose function is called on each block")},
                  {"records", boolean("pipe, flow: blocks end where lines end")},
                  {"block", bytes("pipe, flow: of a block")},
                  {"threads", whole(1, 8192, "pipe, flow: workers; without it: one a CPU")},
                  {"instances", whole(1, 1 << 20, "exec: so many of the command")},
                  {"restart", restart},
                  {"env", {{"type", "object"}, {"additionalProperties", {{"type", "string"}}}, {"description", "exec: variables"}}},
                  {"stdin", string("exec: a file")},
                  {"stdout", string("exec: a file; {instance} is the instance's number")},
                  {"stderr", string("exec: a file; {instance} is the instance's number")},
                  {"cwd", string("exec: where it runs")}},
                 {"name", "cohort", "kind"});
}

}  // namespace

std::string spec_schema() {
    json out{{"$schema", "http://json-schema.org/draft-07/schema#"}, {"title", "A spec of cohorts and their jobs, for cohort plan and cohort up"}};
    out.update(table({{"about", string("a few words for people, shown when it runs")},
                      {"workdir", string("where relative paths start and jobs run; may hold ${NAME} and ${NAME:-default}")},
                      {"on_failure", word({"continue", "stop"}, "of jobs that do not wait for one that failed")},
                      {"machine", described(table({{"topology", string("live, synthetic:DESCRIPTION (hwloc's), or a file of hwloc's XML")}, {"cores", strings("CPUs that count as siblings of one core: [\"0-1\"]")}}), "the machine it is for")},
                      {"cpuset", described(table({{"under", string("the set below which sets of cohorts are made")}}), "where sets are made")},
                      {"policy", described(table({{"cpuset", policy("of cohorts that say nothing")}, {"coresched", policy("of cohorts with a cookie that say nothing")}}), "by what is kept what cohorts ask for: the kernel or nothing, the kernel where it can, or without it")},
                      {"cohort", tables(cohort(), "CPUs, and what goes with them")},
                      {"job", tables(job(), "what runs in a cohort")}},
                     {"cohort"}));
    return out.dump(2) + "\n";
}

}  // namespace cohort::group
