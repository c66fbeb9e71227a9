// SPDX-License-Identifier: BSD-2-Clause
/* Everything that an object can leave for the running kernel to fill in, there or missing. */
#include "bpfctl_test.h"

enum libbpf_tristate { TRI_NO, TRI_YES, TRI_MODULE };

#define KCONFIG EXTERN(".kconfig")
#define KSYM EXTERN(".ksyms")

extern int LINUX_KERNEL_VERSION KCONFIG;
extern _Bool LINUX_HAS_BPF_COOKIE KCONFIG;
extern _Bool LINUX_HAS_SYSCALL_WRAPPER KCONFIG;
extern _Bool LINUX_HAS_WINGS KCONFIG weak;
extern _Bool CONFIG_BPF_SYSCALL KCONFIG;
extern char CONFIG_BPF KCONFIG;
extern enum libbpf_tristate CONFIG_NET KCONFIG;
extern unsigned short CONFIG_HZ KCONFIG;
extern unsigned long long CONFIG_BPFCTL_MISSING KCONFIG weak;
extern const char CONFIG_CC_VERSION_TEXT[8] KCONFIG;

struct rq {
	unsigned int nr_running;
};

extern const void schedule KSYM;
extern const void bpfctl_no_symbol KSYM weak;
extern const int bpfctl_no_variable KSYM weak;
extern const struct rq runqueues KSYM;

extern void bpf_rcu_read_lock(void) KSYM;
extern void bpf_rcu_read_unlock___flavour(void) KSYM;
extern int bpfctl_no_function(int) KSYM weak;
extern void bpf_rcu_read_lock___otherwise(int) KSYM weak;

volatile struct {
	__u64 version, cookie, wrapper, wings, syscall, letter, net, hz, missing;
	char compiler[8];
} config;
volatile struct {
	__u64 schedule, no_symbol, no_variable, lock, no_function;
} address;

SEC("classifier") int reads_the_configuration(struct __sk_buff *skb)
{
	config.version = LINUX_KERNEL_VERSION;
	config.cookie = LINUX_HAS_BPF_COOKIE;
	config.wrapper = LINUX_HAS_SYSCALL_WRAPPER;
	config.wings = LINUX_HAS_WINGS;
	config.syscall = CONFIG_BPF_SYSCALL;
	config.letter = CONFIG_BPF;
	config.net = CONFIG_NET;
	config.hz = CONFIG_HZ;
	config.missing = CONFIG_BPFCTL_MISSING;
	for (int i = 0; i < 8; i++)
		config.compiler[i] = CONFIG_CC_VERSION_TEXT[i];
	return TC_ACT_OK;
}

SEC("classifier") int takes_addresses(struct __sk_buff *skb)
{
	address.schedule = (__u64)&schedule;
	address.no_symbol = (__u64)&bpfctl_no_symbol;
	address.no_variable = (__u64)&bpfctl_no_variable;
	address.lock = (__u64)bpf_rcu_read_lock;
	address.no_function = (__u64)bpfctl_no_function;
	return TC_ACT_OK;
}

SEC("classifier") int takes_a_variable(struct __sk_buff *skb)
{
	address.no_variable = (__u64)&runqueues;
	return TC_ACT_OK;
}

SEC("classifier") int calls_what_is_there(struct __sk_buff *skb)
{
	bpf_rcu_read_lock();
	bpf_rcu_read_unlock___flavour();
	if (bpfctl_no_function)
		return bpfctl_no_function(1);
	if (bpf_rcu_read_lock___otherwise)
		bpf_rcu_read_lock___otherwise(1);
	return TC_ACT_OK;
}

SEC("classifier") int calls_what_is_missing(struct __sk_buff *skb)
{
	return bpfctl_no_function(1);
}

LICENSE("GPL");
