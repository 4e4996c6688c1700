/* SPDX-License-Identifier: Apache-2.0 */
/* Money and figures: default prices, the bill in FOCUS's columns, OpenMetrics.
 *
 * Owns:  nothing.
 * Never: a float. Quantities and money are integers until they are printed, exactly.
 */
#include "ctl/ctl_int.h"

/* The price list of a new home, in nano-dollars: per vCPU-hour, GiB-hour, device-hour, and per
 * million tokens. Around what clouds ask in 2026; change it to what your machine costs. */
static const struct {
    enum mr_sku sku;
    int64_t price_nusd;
} prices[] = {
    {MR_SKU_CPU, 40000000},           /* $0.04 a vCPU-hour */
    {MR_SKU_MEMORY, 5000000},         /* $0.005 a GiB-hour */
    {MR_SKU_TOKENS_PROMPT, 50000000}, /* $0.05 a million tokens */
    {MR_SKU_TOKENS_CACHED, 5000000},  {MR_SKU_TOKENS_COMPLETION, 200000000},
};
#define ACCEL_PRICE_NUSD 2500000000 /* $2.50 a device-hour, of every type */

int ctl_prices_push(struct mr_ctl *ctl)
{
    for (size_t i = 0; i < MR_COUNT_OF(prices); i++) {
        struct mr_event event = {
            .kind = MR_EVENT_PRICE_SET,
            .u.price = {.sku = prices[i].sku, .price_nusd = prices[i].price_nusd}};
        ctl_push_event(ctl, &event, 0);
    }
    for (uint8_t type = 1; type < MR_ACCEL_TYPES_MAX; type++) {
        struct mr_event event = {
            .kind = MR_EVENT_PRICE_SET,
            .u.price = {.sku = MR_SKU_ACCEL, .accel_type = type, .price_nusd = ACCEL_PRICE_NUSD}};
        ctl_push_event(ctl, &event, 0);
    }
    return 0;
}

/* --- exact decimals --------------------------------------------------------------------------- */

/* value / 10^digits with all its digits, trailing zeros cut. */
static void put_decimal(struct mr_buf *out, uint64_t value, uint32_t digits)
{
    uint64_t unit = 1;
    for (uint32_t i = 0; i < digits; i++)
        unit *= 10;
    mr_buf_printf(out, "%llu", (unsigned long long)(value / unit));
    uint64_t rest = value % unit;
    if (rest == 0) return;
    mr_buf_put_char(out, '.');
    while (rest > 0) {
        unit /= 10;
        mr_buf_put_char(out, (char)('0' + rest / unit));
        rest %= unit;
    }
}

static void put_money(struct mr_buf *out, int64_t nusd)
{
    if (nusd < 0) mr_buf_put_char(out, '-');
    put_decimal(out, nusd < 0 ? 0u - (uint64_t)nusd : (uint64_t)nusd, 9);
}

struct unit {
    const char *name;
    uint64_t multiply, divide; /* quantity * multiply / divide is in millionths of the unit */
};

/* Milli-vCPU-microseconds to vCPU-hours in millionths and so on. */
static struct unit unit_of(enum mr_sku sku)
{
    switch (sku) {
    case MR_SKU_CPU:
        return (struct unit){"vCPU-hours", 1, 3600000u};
    case MR_SKU_MEMORY:
        return (struct unit){"GiB-hours", 1, 3686400u};
    case MR_SKU_ACCEL:
        return (struct unit){"device-hours", 1, 3600000u};
    default:
        return (struct unit){"tokens", 1000000u, 1};
    }
}

static void put_names(struct mr_ctl *ctl, struct mr_buf *out, const struct mr_bill_line *line)
{
    const struct ctl_spec *spec = ctl_spec_find(&ctl->book, line->workload.v);
    mr_buf_printf(out, "{\"SubAccountId\":\"%u\",\"SubAccountName\":", line->tenant.v);
    mr_json_put_string(out, mr_str_from(ctl_tenant_name(&ctl->book, line->tenant.v)));
    mr_buf_printf(
        out, ",\"ResourceId\":\"%llu\",\"ResourceName\":", (unsigned long long)line->workload.v);
    mr_json_put_string(out, mr_str_from(spec != NULL ? spec->name : "earlier workloads"));
}

static void put_line(struct mr_ctl *ctl, struct mr_buf *out, const struct mr_bill_line *line)
{
    struct unit unit = unit_of(line->sku);
    const char *accel = ctl_accel_name(&ctl->book, line->accel_type);
    bool tokens = line->sku >= MR_SKU_TOKENS_PROMPT;
    put_names(ctl, out, line);
    struct mr_buf sku; /* a name of an accelerator is anything its operator likes */
    mr_buf_init(&sku, 256);
    mr_buf_printf(&sku, "%s%s%s", mr_sku_name(line->sku), accel[0] != 0 ? "-" : "", accel);
    mr_buf_printf(out, ",\"ServiceName\":\"%s\",\"SkuId\":", tokens ? "Inference" : "Compute");
    mr_json_put_string(out, mr_buf_str(&sku));
    mr_buf_done(&sku);
    mr_buf_put_str(out, MR_STR(",\"ConsumedQuantity\":"));
    put_decimal(out, mr_mul_div_u64(line->quantity, unit.multiply, unit.divide), 6);
    mr_buf_printf(out, ",\"ConsumedUnit\":\"%s\",\"BilledCost\":", unit.name);
    put_money(out, line->charge_nusd);
    mr_buf_put_str(out, MR_STR(",\"BillingCurrency\":\"USD\",\"ChargeCategory\":\"Usage\","
                               "\"ChargePeriodStart\":\""));
    mr_time_put_rfc3339(out, line->from_us);
    mr_buf_put_str(out, MR_STR("\",\"ChargePeriodEnd\":\""));
    mr_time_put_rfc3339(out, line->to_us);
    mr_buf_printf(out, "\",\"x_Accrued\":%s}", line->accrued ? "true" : "false");
}

void ctl_put_usage(struct mr_ctl *ctl, const struct mr_ctl_call *call, struct mr_buf *out)
{
    struct mr_bill_line line;
    uint64_t cursor = 0, now_us = ctl->env->ops->now_us(ctl->env);
    int64_t total_nusd = 0;
    bool first = true;
    mr_buf_put_str(out, MR_STR("{\"currency\":\"USD\",\"lines\":["));
    while (mr_core_bill_next(ctl->core, now_us, &cursor, &line) == 0) {
        if (!ctl_may_see(call, line.tenant)) continue;
        if (!first) mr_buf_put_char(out, ',');
        first = false;
        put_line(ctl, out, &line);
        MR_ASSERT(mr_add_i64(total_nusd, line.charge_nusd, &total_nusd));
    }
    mr_buf_put_str(out, MR_STR("],\"total\":"));
    put_money(out, total_nusd);
    mr_buf_put_char(out, '}');
}

/* --- OpenMetrics ------------------------------------------------------------------------------ */

static void metric(struct mr_buf *out, const char *name, const char *type, const char *help,
                   uint64_t value)
{
    bool counter = strcmp(type, "counter") == 0;
    mr_buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n%s%s %llu\n", name, help, name, type, name,
                  counter ? "_total" : "", (unsigned long long)value);
}

void ctl_put_metrics(struct mr_ctl *ctl, struct mr_buf *out)
{
    struct mr_totals totals;
    struct mr_store_stats store = {0};
    mr_core_totals(ctl->core, &totals);
    ctl->store->ops->stats(ctl->store, &store);
    metric(out, "millrace_core_steps", "counter", "Events stepped.", mr_core_steps(ctl->core));
    metric(out, "millrace_nodes_up", "gauge", "Nodes that are up.", totals.nodes_up);
    metric(out, "millrace_nodes_down", "gauge", "Nodes that are down.", totals.nodes_down);
    metric(out, "millrace_workloads_running", "gauge", "Workloads that run.", totals.running);
    metric(out, "millrace_workloads_pending", "gauge", "Workloads that wait.", totals.pending);
    metric(out, "millrace_leases", "gauge", "Leases that live.", totals.leases);
    metric(out, "millrace_cpu_milli", "gauge", "Thousandths of a vCPU in the fleet.",
           totals.cpu_milli);
    metric(out, "millrace_cpu_free_milli", "gauge", "Of these, free.", totals.cpu_free_milli);
    metric(out, "millrace_mem_mib", "gauge", "Memory of the fleet in MiB.", totals.mem_mib);
    metric(out, "millrace_mem_free_mib", "gauge", "Of this, free.", totals.mem_free_mib);
    metric(out, "millrace_accel_milli", "gauge", "Thousandths of accelerators.",
           totals.accel_milli);
    metric(out, "millrace_accel_free_milli", "gauge", "Of these, free.", totals.accel_free_milli);
    metric(out, "millrace_ctl_calls", "counter", "Calls answered.", ctl->calls);
    metric(out, "millrace_ctl_pending_records", "gauge", "Records that wait for the disk.",
           ctl->pending_count);
    metric(out, "millrace_journal_seq", "gauge", "The last durable record.", ctl->seq);
    metric(out, "millrace_journal_commits", "counter", "Groups committed.", ctl->commits);
    metric(out, "millrace_journal_retries", "counter", "Groups refused by a full disk.",
           ctl->retries);
    metric(out, "millrace_journal_records", "gauge", "Records kept.", store.records);
    metric(out, "millrace_journal_bytes", "gauge", "Size of the journal on disk.", store.bytes);
    metric(out, "millrace_journal_snapshots", "counter", "Snapshots written.", ctl->snapshots);
    metric(out, "millrace_journal_full", "gauge", "1 while the disk has no space.", ctl->full);
    metric(out, "millrace_journal_commit_microseconds", "counter", "Time spent in commits.",
           store.commit_us);
}
