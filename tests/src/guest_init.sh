#!/bin/busybox sh
# The first process of a guest: loads the modules, then runs each line of the second serial port, which
# is a script in base64, and answers with its output, a record separator and its status.
/bin/busybox --install -s /bin
export PATH=/usr/local/bin:/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mkdir -p /run/netns
stty -F /dev/ttyS1 raw -echo
status=0
for module in /modules/*.ko; do
    [ -e "$module" ] || continue
    insmod "$module" || status=1
done
ip link set lo up || status=1
exec </dev/ttyS1 >/dev/ttyS1 2>&1
printf '\036%d\n' "$status"
while read -r line; do
    echo "$line" | base64 -d >/run/script
    /usr/local/bin/sh /run/script </dev/null
    printf '\036%d\n' "$?"
done
