# Tenant contoso, site hq, tunnel a.
# The private key is the one whose public key is J6Cus/7pIy+K8iEfnuSRxbEL7LVWO/web5NCfsvI/hQ=.
/interface wireguard add name=nvgate mtu=1440 listen-port=51820 private-key="<private key of this site>"
# A preshared key is needed: it is the `preshared_key` of this tunnel in the file of tenant contoso;
# --show-secrets prints it here.
/interface wireguard peers add interface=nvgate public-key="Q+yFdTP6hexGb2ZCmiRGmyA3TxFf3yHuZ0izwUSRjmo=" endpoint-address=203.0.113.16 endpoint-port=51820 allowed-address=10.1.1.0/24,10.50.0.0/16,172.20.1.0/24,2001:db8:c0:1::/64 persistent-keepalive=25s
/ip route add dst-address=10.1.1.0/24 gateway=nvgate
/ip route add dst-address=10.50.0.0/16 gateway=nvgate
/ip route add dst-address=172.20.1.0/24 gateway=nvgate
/ipv6 route add dst-address=2001:db8:c0:1::/64 gateway=nvgate
