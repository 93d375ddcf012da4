// What is promised, and the error model: what sums in the arithmetic T are off by, and whether that is little enough. A
// sum that is NaN is never enough.
#pragma once

#include "arithmetic.h"
#include "query.h"
#include "sums.h"

namespace interp_fast {

// What sums have to reach for a result of the promised accuracy.
struct Accuracy {
  double logit;          // rms error of a logit: small enough that first order is all that matters
  double log_norm;       // what those of logits may add to log_norm, rms
  double per_radius;     // error of the mean in units of the rms radius of the data
  double per_deviation;  // and in units of s = sqrt(S) / alpha, which is what the score sees
  double top_weight;     // error of a single weight
  double rest;           // 1 - the largest weight must exceed this where off-weights are summed
  double variance;       // and the variance this share of the second moment that it is a difference of
  double scatter;        // error of the scatter in units of the squared rms radius
};

// What float32 and float64 results promise, with a margin; in float64 sums of float32 data rounding is no concern. What
// is promised of log_norm is some 20 rms errors of logits: 17 were seen, of queries a little farther out than their row
// in a hundred dimensions. The shares of off-weights and of the variance are what leaves 1e-3 (1e-9) of
// differences whose terms are off by some 2^-22 (2^-51).
constexpr Accuracy kFloat32 = {.logit = 0x1p-13,
                               .log_norm = 0x1.8p-15,
                               .per_radius = 0x1p-19,
                               .per_deviation = 0x1p-16,
                               .top_weight = 5e-6,
                               .rest = 0x1p-8,
                               .variance = 0x1p-8,
                               .scatter = 0x1p-16};
constexpr Accuracy kFloat64 = {.logit = 0x1p-32,
                               .log_norm = 0x1p-34,
                               .per_radius = 0x1p-35,
                               .per_deviation = 0x1p-36,
                               .top_weight = 5e-11,
                               .rest = 0x1p-16,
                               .variance = 0x1p-16,
                               .scatter = 0x1p-36};
constexpr Accuracy kFloat32InFloat64 = {.logit = kFloat32.logit,
                                        .log_norm = kFloat32.log_norm,
                                        .per_radius = kFloat32.per_radius,
                                        .per_deviation = kFloat32.per_deviation,
                                        .top_weight = kFloat32.top_weight,
                                        .rest = 0x1p-20,
                                        .variance = 0x1p-26,
                                        .scatter = kFloat32.scatter};
// Of the noise prediction, which sees logits through the deviation of the rows.
constexpr double kNoise32 = 1e-4, kNoise64 = 1e-10;

// In place of T: sums of exact products of digits. What is rounded are the query, 2^x, sums over blocks of rows, and
// weights to whole numbers of a unit for each block.
struct Digits {};
template <>
inline constexpr double kRoundoff<Digits> = 0x1p-24;

// What a logit is off by where bytes of a grid stand for rows that are near them, but for few queries. One that has
// nothing to do with what is left of the rows sees no more of it than its largest number, rms: twice that, but no more
// than all.
double logit_off_grid(const Data& data, const Query& query);

// By how much rounding to digits displaces a query in normal form along any one direction, rms. Numbers are rounded up
// or down, whatever their fractions are, so that neither a query nor rows of few distinct numbers are an exception.
double displaced_by_digits(const Data& data, const Query& query);

// What no row that counts is longer than, in normal form, where `wanted` of the heaviest rows count in any case.
double longest_that_counts(const Data& data, const Query& query, int64_t wanted);

// rms error of a logit in T from the products of queries with rows.
template <class T>
double logit_error(const Data& data, const Query& query);

// What a logit is off by because the query is displaced: all of them together.
double displaced_logit(const Query& query);

// What the mean may be off by, in normal form.
double allowed(const Data& data, const Query& query, const Accuracy& accuracy);

// Whether the scores of a query may be formed in T at all.
template <class T>
bool summable(const Data& data, const Query& query, const Accuracy& accuracy);

// Whether rounding a squared distance c may cost more than a quarter of what is promised: of the noise prediction,
// which sees logits through the deviation of the rows (`variance`, of the posterior and in normal form), or, with
// `logits`, of the logits themselves.
bool ill_conditioned(const Data& data, const Query& query, double c, double variance, bool logits);

// The most by which two rounded squared distances of this size may compare wrongly.
double largest_error(const Data& data, double c);

// Sums in T of one call, which asks for these outputs to this accuracy.
template <class T>
class ErrorModel {
 public:
  ErrorModel(const Data& data, const Outputs& out, const Accuracy& accuracy)
      : data_(data), out_(out), accuracy_(accuracy) {}

  // Whether sums in T are enough for this query. `unsure` is the largest weight whose logit was formed in T: the
  // heavier ones are exact. The logit of the heaviest is off by no more than `error`.
  bool enough(const Query& query, const Sums& sums, double unsure, double error) const;
  // The same for sums that are wholly in T.
  bool enough_in_t(const Query& query, const Sums& sums, double tolerated_weight) const;
  // The same where the heaviest rows are excluded from the sums, which weigh so much in a posterior of this variance.
  bool enough_beside(const Query& query, const Sums& remainder, double weight, double variance) const;

  // Whether distances in float64 resolve the candidates: tell them from each other, and from those in sums about the
  // centre; and the log-normalizer, if it is taken from such sums.
  bool resolved(const Query& query, const Candidates& candidates, double variance) const;

  // The variance that the rows may have: next to a second moment about a point far away the sums know none.
  double variance_at_most(const Sums& sums) const;

  // The largest weight whose logit may be formed in T whatever the posterior: what the tests let pass.
  double tolerated_weight(const Query& query) const;

  // Whether it is what a few rows dominate that is not known well enough.
  bool dominated(const Query& query, const Sums& sums, double unsure) const;
  // Whether the variance is, also beside the rows that have been corrected.
  bool clustered(const Query& query, const Sums& sums) const;

 private:
  bool enough_for_variance(const Query& query, const Sums& sums, double weight, double variance) const;
  bool enough_for_mean(const Query& query, const Sums& sums, double unsure, double variance) const;
  bool enough_beside_mean(const Sums& sums) const;
  bool enough_for_log_norm(double logit, double together) const;
  double rounding_of(double size) const;
  double moment(const Query& query, const Sums& sums) const;
  double least_rest(double error) const;
  double allowed_in_scatter(const Query& query) const;
  bool second_order() const { return out_.variance || out_.jvp; }
  double shared(const Query& query, double weight) const;
  double clump(const Query& query) const;
  double error_of_mass(double logit, double together, double odds) const;
  bool mean() const { return out_.mean || out_.jvp || out_.variance; }
  bool off_weights() const { return out_.log_rest || out_.entropy || out_.variance || out_.jvp; }

  const Data& data_;
  const Outputs& out_;
  const Accuracy& accuracy_;
};

}  // namespace interp_fast
