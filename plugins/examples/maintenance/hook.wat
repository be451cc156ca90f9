;; Holds deliveries back during the nightly maintenance, from 02:00 to 03:00 UTC.
;;
;; No toolchain is needed: the server takes this text as it is. The function has the canonical ABI's shape of
;;   on-dequeue: func(ctx: context, items: list<item>) -> list<result<dequeue-verdict, string>>
;; A result takes 80 bytes (0: ok; 8: the verdict's number; 16: what the verdict carries).
(module
  (memory (export "memory") 1)
  (global $free (mut i32) (i32.const 1024))

  (func $on-dequeue (export "mqueue:hooks/dequeue@0.1.0#on-dequeue")
    (param $namespace i32) (param $namespace-len i32) (param $topic i32) (param $topic-len i32) (param $now i64)
    (param $principal i32) (param $principal-len i32) (param $scopes i32) (param $scopes-len i32)
    (param $items i32) (param $count i32) (result i32)
    (local $results i32) (local $result i32) (local $left i32) (local $wait i32) (local $day i32)
    (local.set $results (call $realloc (i32.const 0) (i32.const 0) (i32.const 8) (i32.mul (local.get $count) (i32.const 80))))
    (local.set $result (local.get $results))
    (local.set $left (local.get $count))
    ;; Milliseconds since midnight; those that are left when they are between two and three hours.
    (local.set $day (i32.wrap_i64 (i64.rem_u (local.get $now) (i64.const 86400000))))
    (if (i32.lt_u (i32.sub (local.get $day) (i32.const 7200000)) (i32.const 3600000))
      (then (local.set $wait (i32.sub (i32.const 10800000) (local.get $day)))))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $left)))
        (i32.store8 (local.get $result) (i32.const 0))
        (if (local.get $wait)
          (then
            (i32.store8 offset=8 (local.get $result) (i32.const 3))        ;; defer(u32)
            (i32.store offset=16 (local.get $result) (local.get $wait)))
          (else
            (i32.store8 offset=8 (local.get $result) (i32.const 0))))      ;; deliver
        (local.set $result (i32.add (local.get $result) (i32.const 80)))
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (br $next)))
    ;; A list is its address and its length.
    (i32.store (i32.const 0) (local.get $results))
    (i32.store (i32.const 4) (local.get $count))
    (i32.const 0))

  ;; Memory for the arguments and the results: taken from the top, and all of it free again after the call.
  (func $realloc (export "cabi_realloc")
    (param $old i32) (param $old-len i32) (param $align i32) (param $len i32) (result i32)
    (local $at i32)
    (local.set $at
      (i32.and (i32.add (global.get $free) (i32.sub (local.get $align) (i32.const 1)))
               (i32.sub (i32.const 0) (local.get $align))))
    (global.set $free (i32.add (local.get $at) (local.get $len)))
    (block $fits
      (loop $grow
        (br_if $fits (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
        (br_if $grow (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))
        (unreachable)))
    (local.get $at))

  (func (export "cabi_post_mqueue:hooks/dequeue@0.1.0#on-dequeue") (param i32)
    (global.set $free (i32.const 1024))))
