// SPDX-License-Identifier: Apache-2.0
// Cohorts inside of cohorts, and cookies of parts, as the kernel has them.
#include "up_guest.hpp"

namespace up_guest {
namespace {

std::string in(const std::string& outer) { return "inside = \"" + outer + "\"\n"; }
std::string set_of(const std::string& name) { return word_after(told(name), "set"); }
std::string cookie_told(const std::string& name) { return word_after(told(name), "cookie"); }

/// "cpus 0-1 mems 0": what stands before the set.
std::string where(const std::string& name) { return told(name).substr(0, told(name).find(" set ")); }

void partition_in_a_partition() {
    const outcome o = up(cohort("out", "0-3", "mems = \"0\"\npartition = \"root\"\ncookie = \"x\"\n" + require_set + require_cookie) + cohort("deep", "2-3", in("out") + "partition = \"isolated\"\ncookie = \"own\"\n") +
                         cohort("beside", "1", in("out")) + cohort("far", "4-5", require_set) + job("out", "in-out") + job("deep", "in-deep") + job("beside", "in-beside") + job("far", "in-far"));
    claim("a partition inside of a partition: the run is well", o.code == 0, o.said());
    claim("who is in the outer one has what the inner one leaves", where("in-out"), "cpus 0-1 mems 0");
    claim("its processes stand in a leaf beside the sets inside", set_of("in-out"), "/cohort-out/jobs");
    claim("the inner one has its own CPUs, and the outer one's node", where("in-deep"), "cpus 2-3 mems 0");
    claim("its set is below the outer one's", told("in-deep").substr(told("in-deep").find("set ")), "set /cohort-out/cohort-deep partition isolated cookie ...");
    claim("a member inside has its CPU", told("in-beside"), "cpus 1 mems 0 set /cohort-out/cohort-beside partition member cookie ...");
    claim("one outside has its set beside", told("in-far"), "cpus 4-5 mems 0-1 set /cohort-far partition member cookie 0...");
    const std::string outer = cookie_told("in-out"), inner = cookie_told("in-deep");
    claim("the outer one has a cookie", is_cookie(outer), outer);
    claim("the inner one's own is another", is_cookie(inner) && inner != outer, inner + " beside " + outer);
    claim("who is inside and says nothing has the outer one's", cookie_told("in-beside"), outer);
    claim("nested sets are gone afterwards", left(), "nothing");
}

void partition_in_a_member() {
    const outcome o = up(cohort("out", "4-7", require_set) + cohort("mid", "5-7", in("out")) + cohort("deep", "6-7", in("mid") + "partition = \"isolated\"\n") + job("out", "in-out") + job("mid", "in-mid") + job("deep", "in-deep"));
    claim("a partition inside of members: the run is well", o.code == 0, o.said());
    claim("it has its CPUs alone", told("in-deep"), "cpus 6-7 mems 0-1 set /cohort-out/cohort-mid/cohort-deep partition isolated cookie ...");
    claim("the members above have the others", where("in-out") + ", " + where("in-mid"), "cpus 4-5 mems 0-1, cpus 5 mems 0-1");
    claim("a partition inside of members: nothing is left", left(), "nothing");
}

void three_deep() {
    const outcome o = up(cohort("a", "4-7", require_set) + cohort("b", "4-6", in("a") + "mems = \"1\"\n") + "[[cohort]]\nname = \"c\"\ncpus = { count = 1 }\n" + in("b") + job("a", "in-a") + job("b", "in-b") + job("c", "in-c"));
    claim("three deep: the run is well", o.code == 0, o.said());
    claim("three deep, the outer one", told("in-a"), "cpus 4-7 mems 0-1 set /cohort-a/jobs partition member cookie ...");
    claim("three deep, the middle one", told("in-b"), "cpus 4-6 mems 1 set /cohort-a/cohort-b/jobs partition member cookie ...");
    claim("three deep, the inner one has one CPU", set_of("in-c") + " " + word_after(told("in-c"), "cpus"), "/cohort-a/cohort-b/cohort-c ...");
    claim("of the middle one's", word_after(told("in-c"), "cpus").size() == 1 && std::string("456").find(word_after(told("in-c"), "cpus")) != std::string::npos, told("in-c"));
    claim("three deep, nothing is left", left(), "nothing");

    const outcome beyond = up(cohort("a", "4-5", require_set) + cohort("b", "5-6", in("a")) + job("b", "in-b"));
    claim("who is inside cannot have more", beyond.code == 1 && beyond.err.find("CPU 6 is not of cohort \"a\"") != std::string::npos, beyond.said());
}

void parts() {
    const std::string must = require_cookie;
    const outcome o = up(cohort("a", "0", "cookie = \"own\"\n" + must) + cohort("b", "2", "cookie = \"own\"\n" + must) + cohort("with-a", "4", "cookie = { same_as = \"a\" }\n" + must) +
                         cohort("xy", "1", "cookie = [\"x\", \"y\"]\n" + must) + cohort("yx", "3", "cookie = [\"y\", \"x\"]\n" + must) + cohort("x", "5", "cookie = [\"x\"]\n" + must) + cohort("none", "6", "cookie = \"none\"\n") +
                         job("a", "in-a") + job("b", "in-b") + job("with-a", "in-with-a") + job("xy", "in-xy") + job("yx", "in-yx") + job("x", "in-x") + job("none", "in-none"));
    claim("cookies of parts: the run is well", o.code == 0, o.said());
    claim("an own one is a cookie", is_cookie(cookie_told("in-a")), told("in-a"));
    claim("two own ones are two", is_cookie(cookie_told("in-b")) && cookie_told("in-b") != cookie_told("in-a"), told("in-a") + told("in-b"));
    claim("the same as an own one is that one", cookie_told("in-with-a"), cookie_told("in-a"));
    claim("equal parts are one cookie, whatever their order", is_cookie(cookie_told("in-xy")) && cookie_told("in-yx") == cookie_told("in-xy"), told("in-xy") + told("in-yx"));
    claim("some of the parts are another", is_cookie(cookie_told("in-x")) && cookie_told("in-x") != cookie_told("in-xy"), told("in-x"));
    claim("none is none", cookie_told("in-none"), "0");
    claim("cookies of parts: nothing is left", left(), "nothing");
}

}  // namespace

void inside() {
    partition_in_a_partition();
    partition_in_a_member();
    three_deep();
    parts();
}

}  // namespace up_guest
