ip link add br0 type bridge
ip address add 10.80.0.1/24 dev br0
ip link set br0 up
ip netns add ns0
ip -n ns0 link set lo up
ip link add veth0 type veth peer name eth0 netns ns0
ip link set veth0 master br0 up
ip -n ns0 address add 10.80.0.2/24 dev eth0
ip -n ns0 link set eth0 up
ip -n ns0 route add default via 10.80.0.1
sysctl -q -w net.ipv4.ip_forward=1
nft add table ip nat
nft add chain ip nat postrouting '{ type nat hook postrouting priority srcnat; }'
nft add rule ip nat postrouting ip saddr 10.80.0.0/24 oifname != br0 masquerade
